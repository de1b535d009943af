"""Writes that are whole or do not happen, and the files of tensors that they make."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ExplainedError


def write_atomically(path: Path, write: Callable[[Path], None], error: type[ExplainedError], room: str) -> None:
    """Call `write(temporary path)` and move the result over `path`; a failure leaves no half-written file behind.

    A failure is raised as `error`, which names the `room` that the file needs.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb+") as file:  # without it a power cut may leave the new name on an empty file
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as failure:
        raise error(
            f"Could not write {path.name} into {path.parent} ({getattr(failure, 'strerror', None) or failure})",
            f"That folder must exist, be writable and have room for {room}",
            "Free some space or correct the folder's permissions, then try again",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and all tensors of a safetensors file; raises what the library and the system raise."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
