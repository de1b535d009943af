"""A ComfyUI that is already there: a checkout and its Python, used as a host without writing into it. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .report import DevError

# Said once, in the environment, which every process that is started from here inherits.
PATH, PYTHON = "AAI_HOST_PATH", "AAI_HOST_PYTHON"
VENVS = (".venv", "venv", "env")  # folders of a checkout in which its Python may be
PORTABLE = "python_embeded"  # as ComfyUI's portable version for Windows spells it, beside the checkout
QUESTION = (
    "import json, sys, sysconfig, torch; print(json.dumps([sys.version, sysconfig.get_path('purelib'), sys.path]))"
)


@dataclass(frozen=True)
class External:
    """A checkout and the interpreter that runs it."""

    version: str
    python: str
    comfyui: str


def choose(path: str, python: str | None = None) -> External:
    """Make the ComfyUI in the folder `path` the host of this process and of all that it starts.

    `python`: its interpreter; without it the one of an environment in the checkout, of the portable version beside it, or
    the one that is active. Raises `DevError` for a folder that is none, and for a Python that cannot run it.
    """
    folder = Path(path).expanduser().resolve()
    if not (folder / "main.py").is_file() or not (folder / "comfy" / "sd.py").is_file():
        raise DevError(f"{folder} holds no ComfyUI (main.py and comfy/sd.py). Name the folder of its checkout.")
    interpreter = python or _python_of(folder)
    ask(interpreter)
    os.environ |= {PATH: str(folder), PYTHON: interpreter, "PYTHONDONTWRITEBYTECODE": "1"}
    return current()


def current() -> External | None:
    """The ComfyUI that was chosen; None where a version is built."""
    if not os.environ.get(PATH):
        return None
    return External(_version(Path(os.environ[PATH])), os.environ[PYTHON], os.environ[PATH])


def _python_of(folder: Path) -> str:
    inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    places = [folder / name / inside for name in VENVS] + [folder.parent / PORTABLE / "python.exe"]
    found = next((place for place in places if place.is_file()), None)
    return str(found or sys.executable)


def _version(folder: Path) -> str:
    """What the checkout says that it is."""
    for name in ("comfyui_version.py", "pyproject.toml"):
        file = folder / name
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        if match := re.search(r"^(?:__version__|version)\s*=\s*[\"']([\w.+-]+)[\"']", text, re.MULTILINE):
            return match[1]
    return "unknown"


def ask(python: str) -> list:
    """[version, folder of packages, sys.path] of an interpreter; raises `DevError` for one that has no PyTorch."""
    try:
        done = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, errors="replace", cwd=os.sep)
    except OSError as error:
        raise DevError(f"{python} cannot be started ({error.strerror}). Name ComfyUI's Python with --python.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise DevError(f"{python} has no PyTorch that works ({last}). Name ComfyUI's own Python with --python.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_constraints(own: External, path: Path) -> None:
    """The packages of its Python as constraints for pip, so that nothing else takes their place."""
    question = (
        "from importlib.metadata import distributions as d; "
        "print(*sorted({f'{p.name}=={p.version}' for p in d() if p.name and p.version}), sep='\\n')"
    )
    done = subprocess.run([own.python, "-c", question], capture_output=True, text=True, check=True, cwd=os.sep)
    path.write_text(done.stdout, encoding="utf-8")


def folder_name(own: External) -> str:
    """The name in the cache for what is installed beside a ComfyUI."""
    return "own-" + hashlib.sha256(f"{own.comfyui}\0{own.python}".encode()).hexdigest()[:12]


def build_overlay(own: External, folder: Path) -> None:
    """An environment of the same Python in `folder`/venv that sees the packages of `own` and adds others beside them."""
    version, packages, _ = ask(own.python)
    stamp, stamp_file = json.dumps([version, packages]), folder / "venv.stamp"
    if stamp_file.is_file() and stamp_file.read_text(encoding="utf-8") == stamp:
        return
    # Its own pip serves: what that installs goes where the interpreter belongs that runs it.
    command = [own.python, "-m", "venv", "--clear", "--without-pip", str(folder / "venv")]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
        raise DevError(
            f"{own.python} makes no environment for the test tools ({last}). Use a Python with the module venv; the demo "
            "and `dev.py serve` need none."
        )
    inside = folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    question = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([str(inside), "-c", question], capture_output=True, text=True, check=True).stdout.strip()
    (Path(site) / "aai_host.pth").write_text(f"{packages}\n", encoding="utf-8")
    stamp_file.write_text(stamp, encoding="utf-8")
