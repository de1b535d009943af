"""What Windows refuses and Linux allows: to replace a file that is open or mapped. Linux tells which are, in /proc."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PROC = Path("/proc/self")


def is_held(path: str | os.PathLike) -> bool:
    """Whether this process has a file open or mapped; never where the system has no /proc."""
    if not PROC.is_dir() or not os.path.exists(path):
        return False
    file = os.stat(path)
    for link in (PROC / "fd").iterdir():
        try:
            status = os.stat(link)
        except OSError:  # closed since it was listed
            continue
        if (status.st_dev, status.st_ino) == (file.st_dev, file.st_ino):
            return True
    return any(os.path.realpath(path) in line for line in (PROC / "maps").read_text().splitlines())


def refuse_held_files(monkeypatch) -> list[str]:
    """`os.replace` as Windows has it, from now on -> the names of files that it replaced."""
    replace, replaced = os.replace, []

    def as_windows(source, target, **options):
        for path in (source, target):
            if is_held(path):
                raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        replace(source, target, **options)
        replaced.append(os.path.basename(target))

    monkeypatch.setattr(os, "replace", as_windows)
    return replaced
