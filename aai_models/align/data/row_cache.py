"""What never changes of a clip, kept on disk: spectrograms and states of the frozen picture tower, by row."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class RowCache:
    """Rows of half-precision numbers in a sparse file that grows with what is put in; processes of one machine share it.

    `kind` says what is kept and of which data and weights: another kind is another file. Rows beyond `limit` bytes are
    not kept. A row is marked after it is written, so that a process which dies leaves no half-written row marked. Once
    the disk is full nothing more is kept; `failure` then says so.
    """

    def __init__(self, folder: Path, kind: str, rows: int, shape: tuple[int, ...], limit: int):
        self._shape, self._size = shape, 2 * int(np.prod(shape))
        self.rows, self.failure = min(rows, limit // self._size), ""
        if self.rows:
            folder.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(f"{kind} {rows} {shape}".encode()).hexdigest()[:24]
            # Written and not mapped: a write to a mapped page kills the process if the disk is full.
            self._values, self._marks = (_opened(folder / f"{name}.{end}") for end in ("half", "marks"))

    def has(self, row: int) -> bool:
        if row >= self.rows:
            return False
        self._marks.seek(row)
        return self._marks.read(1) == b"\1"

    def get(self, row: int) -> Tensor | None:
        """A row as it was put, or None."""
        if not self.has(row):
            return None
        self._values.seek(row * self._size)
        values = bytearray(self._values.read(self._size))
        return torch.from_numpy(np.frombuffer(values, np.float16).reshape(self._shape))

    def put(self, row: int, value: Tensor) -> None:
        if row >= self.rows or self.failure:
            return
        try:
            _write(self._values, row * self._size, value.detach().to("cpu", torch.float16).numpy().tobytes())
            _write(self._marks, row, b"\1")
        except OSError as error:
            self.failure = f"features are no longer kept, training goes on without ({error.strerror or error})"


def _opened(path: Path):
    """For reading and writing anywhere, past its end too, and with no buffer that another process could not see."""
    path.touch()
    return open(path, "r+b", buffering=0)


def _write(file, place: int, data: bytes) -> None:
    file.seek(place)
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
