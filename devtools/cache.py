"""The cache folder outside the checkout, and the lock that makes two builders wait for each other. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from .report import DevError, say


def cache_root() -> Path:
    """`AAI_CACHE` if set, else the platform's folder for caches."""
    if override := os.environ.get("AAI_CACHE"):
        return Path(override).expanduser().resolve()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "comfyui-align-adapt-inject"


def ensure_folder(path: Path) -> Path:
    """Create `path`; a folder that cannot be made is an error with its remedy."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DevError(
            f"Cannot create {path}: {error.strerror}. Set AAI_CACHE to a folder that you can write to."
        ) from error
    return path


def _try_lock(handle) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def lock(path: Path):
    """Hold an exclusive lock on the file `path`. The system releases it when the holder dies, however it dies."""
    ensure_folder(path.parent)
    with open(path, "a+b") as handle:
        if not _try_lock(handle):
            say(f"another process is building {path.stem}; waiting for it")
            while not _try_lock(handle):
                time.sleep(0.5)
        yield
