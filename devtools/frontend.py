"""Another front end for a host, from the package index. Standard library only."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from .cache import cache_root, ensure_folder, lock
from .hosts import pip_download
from .report import DevError, step

ROOT = "AAI_FRONTEND"  # in the environment, which every process that is started from here inherits
INSIDE = "comfyui_frontend_package/static/"


def arguments() -> tuple[str, ...]:
    """What ComfyUI's command line needs for the front end that was chosen; nothing for its own."""
    folder = os.environ.get(ROOT)
    return ("--front-end-root", folder) if folder else ()


def choose(version: str) -> Path:
    """Make the front end of this version that of every host that is started from here; its folder."""
    if not re.fullmatch(r"\d+(\.\d+){1,3}(?:\w+)?", version):
        raise DevError(f"{version!r} is no version of the front end. Write for instance --frontend 1.58.1.")
    folder = ensure_folder(cache_root() / "frontends") / version
    with lock(folder.parent / f"{version}.lock"):
        if not (folder / "index.html").is_file():
            _fetch(version, folder)
    os.environ[ROOT] = str(folder)
    return folder


def _fetch(version: str, folder: Path) -> None:
    package = f"comfyui-frontend-package=={version}"
    with step(f"fetching {package}"), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheel = pip_download(package, Path(scratch), sha256=None, binary=True)
        with zipfile.ZipFile(wheel) as file:
            file.extractall(scratch, [name for name in file.namelist() if name.startswith(INSIDE)])
        if not (Path(scratch) / INSIDE / "index.html").is_file():
            raise DevError(f"{wheel.name} holds no front end under {INSIDE}. Choose another version.")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(Path(scratch) / INSIDE, folder)
