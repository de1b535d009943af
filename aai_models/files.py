"""Atomic writes, and safetensors files."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ExplainedError

SHORT = 40  # letters of a file's name in that of its unfinished write
STALE = 3600.0  # seconds after which nobody writes an unfinished file any more
LEFT = re.compile(rf"\..{{0,{SHORT}}}-[0-9a-f]{{32}}\.partial", re.DOTALL)
_looked_at: set[Path] = set()


def write_atomically(path: Path, write: Callable[[Path], object], error: type[ExplainedError], room: str) -> None:
    """Call `write(temporary path)` and move the result over `path`; a failure leaves no half-written file behind.

    A failure is raised as `error`, which names the `room` that the file needs. Windows replaces no file that is open or
    mapped, in this process or in another; `read_tensors` leaves none so.
    """
    temporary = path.with_name(f".{path.stem[:SHORT]}-{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(path.parent)
        write(temporary)
        with open(temporary, "rb+") as file:  # without it a power cut may leave the new name on an empty file
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except PermissionError as failure:
        if not path.exists():
            raise _unwritten(path, failure, error, room) from None
        raise error(
            f"{path.name} in {path.parent} could not be replaced ({failure.strerror or failure})",
            "It must be writable, and Windows replaces no file that a program has open",
            "Close the program that uses it or correct the permissions, then try again",
        ) from None
    except (OSError, SafetensorError) as failure:
        raise _unwritten(path, failure, error, room) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _remove_left(folder: Path) -> None:
    """Remove what writes into a folder left that were killed long ago; another process may be at a younger one.

    Once for each folder in the life of a process: a folder may hold a hundred thousand files.
    """
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if LEFT.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > STALE:
                        os.unlink(entry.path)


def _unwritten(path: Path, failure: Exception, error: type[ExplainedError], room: str) -> ExplainedError:
    return error(
        f"Could not write {path.name} into {path.parent} ({getattr(failure, 'strerror', None) or failure})",
        f"That folder must exist, be writable and have room for {room}",
        "Free some space or correct the folder's permissions, then try again",
    )


def read_header(path: str | os.PathLike) -> dict[str, str]:
    """What a safetensors file says of itself; raises what the library and the system raise."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def read_tensors(path: str | os.PathLike, prefix: str = "") -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and all tensors of a safetensors file, or those whose names begin with `prefix`, on the CPU.

    The tensors are copies: nothing of the file stays open or mapped, so that it may be replaced while they are in use.
    Raises what the library and the system raise.
    """
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
        return dict(file.metadata() or {}), {name: file.get_tensor(name).clone() for name in names}
