"""Atomic writes, and safetensors files."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ExplainedError


def write_atomically(path: Path, write: Callable[[Path], object], error: type[ExplainedError], room: str) -> None:
    """Call `write(temporary path)` and move the result over `path`; a failure leaves no half-written file behind.

    A failure is raised as `error`, which names the `room` that the file needs. Windows replaces no file that is open or
    mapped, in this process or in another; `read_tensors` leaves none so.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
