"""The registry's archive: the files of this checkout that `.comfyignore` leaves, as git matches such patterns."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

from .hosts import ROOT
from .report import DevError

IGNORE = ROOT / ".comfyignore"


def files() -> list[Path]:
    """Paths of the archive's files, relative to the root: known to git or new, and not left out."""
    ours = _listed("--cached", "--others", "--exclude-standard")
    left_out = _listed("--cached", "--ignored", f"--exclude-from={IGNORE}")
    left_out |= _listed("--others", "--ignored", f"--exclude-from={IGNORE}")
    return sorted(path for path in ours - left_out if (ROOT / path).is_file())


def tracked() -> set[Path]:
    """Paths of the files that git knows: what is published."""
    return {path for path in _listed("--cached") if (ROOT / path).is_file()}


def copy(target: Path) -> None:
    """Write the archive's files into the folder `target`."""
    for path in files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)


def pack(target: Path) -> int:
    """Write the archive as the zip file `target` -> its size in bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files():
            archive.write(ROOT / path, path.as_posix())
    return target.stat().st_size


def _listed(*options: str) -> set[Path]:
    command = ["git", "-c", f"safe.directory={ROOT.as_posix()}", "-C", str(ROOT), "ls-files", "-z", *options]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise DevError(
            f"git cannot list this checkout's files: {done.stderr.strip()} Work in a clone of the repository."
        )
    return {Path(name) for name in done.stdout.split("\0") if name}
