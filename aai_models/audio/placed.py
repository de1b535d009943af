"""Decoded frames laid out by the file's own clock: holes become silence, times that jump are not believed."""

from __future__ import annotations

import numpy as np
import torch

from .resample import resample

JITTER = 0.1  # seconds that a time may be off: many containers count theirs from estimates
ROUNDING = 0.002  # seconds that a time may be off where it is exact: some containers count whole milliseconds
LONGEST_HOLE = 10.0  # seconds; a stream whose clock jumps further was joined of two recordings


class PlacedSamples:
    """The samples `first` to `last` (None: to the end) of a sound, (channels, n) float32, collected frame by frame.

    `joinable`: whether the container's clock may jump where recordings were joined, as in MPEG streams.
    """

    def __init__(self, rate: int, channels: int, first: int, last: int | None, joinable: bool = False):
        self._rate, self._channels, self._first, self._last, self._joinable = rate, channels, first, last, joinable
        self._parts: list[np.ndarray] = []
        self._next = 0  # the sample after the last frame
        self._shift = 0  # samples between the file's clock and ours, after a jump
        self._begun = False
        self.missing = 0  # samples of silence in the part that stand for what was lost

    @property
    def begun(self) -> bool:
        """Whether a frame came."""
        return self._begun

    @property
    def complete(self) -> bool:
        return self._last is not None and self._next >= self._last

    def add(self, frame, time: float | None, after_damage: bool, sought: bool) -> bool:
        """Put a frame where its `time` (seconds, None: right after the last one) says.

        `after_damage`: packets before it were lost, so that its time is all that tells where it belongs. `sought`: the
        frames begin somewhere in the file. False, and nothing done, where the first frame then comes too late.
        """
        samples = alike(as_float(frame), frame.sample_rate or self._rate, self._channels, self._rate)
        if time is not None:
            told = round(time * self._rate) + self._shift
            if not self._begun and sought:
                if told > self._first + ROUNDING * self._rate:
                    return False
                self._next = min(told, self._first)
            else:
                self._move_to(told, after_damage)
        elif not self._begun and sought:
            return False
        self._begun = True
        self._append(samples)
        return True

    def _move_to(self, told: int, after_damage: bool) -> None:
        """Fill the hole up to the sample `told`, if it is one."""
        hole = told - self._next
        if hole < -JITTER * self._rate or (self._joinable and self._begun and hole > LONGEST_HOLE * self._rate):
            self._shift -= hole
        elif hole > (0 if after_damage or not self._begun else JITTER * self._rate):
            until = told if self._last is None else min(told, self._last)
            missing = until - max(self._next, self._first)
            if missing > 0:
                self.missing += missing if self._begun else 0
                self._parts.append(np.zeros((self._channels, missing), np.float32))
            self._next = told

    def _append(self, samples: np.ndarray) -> None:
        begin, self._next = self._next, self._next + samples.shape[1]
        cut = samples[:, max(0, self._first - begin) : None if self._last is None else max(0, self._last - begin)]
        if cut.shape[1]:
            self._parts.append(cut)

    def take(self) -> np.ndarray:
        """What was collected since the last call, (channels, n), which is then forgotten: for reading in a stream."""
        parts, self._parts = self._parts, []
        return np.concatenate([np.zeros((self._channels, 0), np.float32), *parts], axis=1)

    def waveform(self) -> torch.Tensor | None:
        """(channels, n); None where the part holds no sample."""
        return torch.from_numpy(np.concatenate(self._parts, axis=1)) if self._parts else None


def alike(samples: np.ndarray, rate: int, channels: int, first_rate: int) -> np.ndarray:
    """A frame (C, n) as the file began: recordings that were joined change their rate or channels in the middle."""
    if samples.shape[0] != channels:
        samples = samples.mean(axis=0, keepdims=True).repeat(channels, axis=0)
    return samples if rate == first_rate else resample(torch.from_numpy(samples), rate, first_rate).numpy()


def as_float(frame) -> np.ndarray:
    """A frame's samples as (C, n) float32; integers are divided by their full scale."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:  # (1, n * C), interleaved
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128.0) / 128.0
    if samples.dtype.kind == "i":
        return (samples / float(1 << (8 * samples.dtype.itemsize - 1))).astype(np.float32)
    return samples.astype(np.float32)
