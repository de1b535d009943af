"""The outline of a whole recording, however long: its peaks and its loudness in steps of 100 ms, read in a stream."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable

import numpy as np
import torch

from .decode import playable_tracks, stream_track
from .loudness import CHANNEL_WEIGHTS, STEP, integrated_of_steps, k_weighting
from .recursive import BlockFilter
from .waveform import SILENCE_PEAK


class Outline:
    """Grows while a recording is read; what is there already may be asked for at any time, from another thread too."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.peaks = array("f")  # the largest sample of each step, in any channel, 0..1 and above for floats that clip
        self.mean_squares = array("d")  # of each step, K-weighted, summed over the channels with their weights
        self.seconds = 0.0  # that were read

    def trace(self, path: str | os.PathLike, stream: int = 0, go_on: Callable[[], bool] = lambda: True) -> bool:
        """Read a file's sound track: `stream` from 1, or 0 for the first that is not silent. False if `go_on` said so.

        At most a few seconds are held at once. Raises `AudioError` for what is no sound.
        """
        for place in playable_tracks(path, stream):
            self._begin()
            tracer = None
            for samples, rate in stream_track(path, place):
                tracer = tracer or _Tracer(self, samples.shape[0], rate)
                tracer.add(np.nan_to_num(samples, posinf=0.0, neginf=0.0))
                if not go_on():
                    return False
            if tracer is not None:
                tracer.end()
            if max(self.peaks, default=0.0) >= SILENCE_PEAK:
                break
        return True

    def bars(self, most: int) -> list[float]:
        """The peaks as at most `most` bars of equal length, three digits each."""
        peaks = np.array(self.peaks[:], np.float32)
        if not len(peaks):
            return []
        edges = np.unique(np.linspace(0, len(peaks), min(most, len(peaks)), endpoint=False, dtype=np.int64))
        return [round(float(peak), 3) for peak in np.maximum.reduceat(peaks, edges)]

    def lufs(self, start: float = 0.0, duration: float | None = None) -> float:
        """The integrated loudness of a part, in seconds; -inf for silence and for what was not read yet."""
        first = round(start / STEP)
        last = None if duration is None else first + max(1, round(duration / STEP))
        return integrated_of_steps(torch.tensor(self.mean_squares[first:last], dtype=torch.float64))


class _Tracer:
    """Cuts samples that come in any portions into steps of 100 ms; step k begins at sample round(k * rate / 10)."""

    def __init__(self, outline: Outline, channels: int, rate: int):
        self._outline, self._rate = outline, rate
        self._filter = BlockFilter(k_weighting(rate), torch.float32)
        self._state = torch.zeros(channels, self._filter.order, dtype=torch.float64)
        self._weights = np.array(CHANNEL_WEIGHTS.get(channels, (1,) * channels), np.float64)[:, None]
        self._rest = np.zeros((channels, 0), np.float32)  # samples that fill no step yet
        self._steps = 0

    def add(self, samples: np.ndarray) -> None:
        held = np.concatenate([self._rest, samples], axis=1)
        begun = self._edge(self._steps)
        count = int((begun + held.shape[1]) / (STEP * self._rate)) - self._steps
        edges = [self._edge(self._steps + k) - begun for k in range(count + 1)]
        while count > 0 and edges[count] > held.shape[1]:
            count -= 1
        self._rest = held[:, edges[max(count, 0)] :]
        if count > 0:
            self._note(held[:, : edges[count]], np.array(edges[: count + 1]))

    def end(self) -> None:
        """The last step, which may be shorter."""
        if self._rest.shape[1]:
            self._note(self._rest, np.array([0, self._rest.shape[1]]))

    def _note(self, samples: np.ndarray, edges: np.ndarray) -> None:
        """(C, n) samples that the edges cut into steps."""
        filtered, self._state = self._filter(torch.from_numpy(samples), self._state)
        squares = np.add.reduceat(filtered.double().square_().numpy(), edges[:-1], axis=-1) / np.diff(edges)
        outline = self._outline
        outline.mean_squares.extend((squares * self._weights).sum(axis=0).tolist())
        outline.peaks.extend(np.maximum.reduceat(np.abs(samples).max(axis=0), edges[:-1]).tolist())
        self._steps += len(edges) - 1
        outline.seconds += samples.shape[1] / self._rate

    def _edge(self, step: int) -> int:
        return round(step * STEP * self._rate)
