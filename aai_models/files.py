"""Writes that are whole or do not happen."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from .errors import ExplainedError


def write_atomically(path: Path, write: Callable[[Path], None], error: type[ExplainedError], room: str) -> None:
    """Call `write(temporary path)` and move the result over `path`; a failure leaves no half-written file behind.

    A failure is raised as `error`, which names the `room` that the file needs.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
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
