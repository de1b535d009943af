"""What never changes of a clip, kept on disk: spectrograms and states of the frozen picture tower, by row."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class RowCache:
    """Rows of half-precision numbers in a sparse file that grows with what is put in; processes of one machine share it.

    `kind` says what is kept and of which data and weights: another kind is another file. Rows beyond `limit` bytes are
    not kept. A row is marked after it is written, so that a process which dies leaves no half-written row marked.
    """

    def __init__(self, folder: Path, kind: str, rows: int, shape: tuple[int, ...], limit: int):
        size = 2 * int(np.prod(shape))
        self.rows = min(rows, limit // size)
        self._values = self._marks = None
        if self.rows:
            folder.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(f"{kind} {rows} {shape}".encode()).hexdigest()[:24]
            self._values = _mapped(folder / f"{name}.half", np.float16, (self.rows, *shape))
            self._marks = _mapped(folder / f"{name}.marks", np.uint8, (self.rows,))

    def has(self, row: int) -> bool:
        return row < self.rows and bool(self._marks[row])

    def get(self, row: int) -> Tensor | None:
        """A row as it was put, or None."""
        return torch.from_numpy(np.array(self._values[row])) if self.has(row) else None

    def put(self, row: int, value: Tensor) -> None:
        if row < self.rows:
            self._values[row] = value.detach().to("cpu", torch.float16).numpy()
            self._marks[row] = 1


def _mapped(path: Path, kind, shape: tuple[int, ...]) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    with open(path, "ab") as file:
        if file.tell() < size:
            file.truncate(size)
    return np.memmap(path, kind, "r+", shape=shape)
