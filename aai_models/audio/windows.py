"""Which part of a recording is used where it is longer than an encoder's input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import loudness

LONG_CLIP = ("first", "center", "loudest", "mean_of_windows")


def cut_windows(sound: Tensor, sample_rate: int, clip: int, policy: str, spare: int = 0) -> Tensor:
    """Cut mono sounds (B, T) at `sample_rate` Hz to windows of `clip` samples -> (B * W, at most clip + spare).

    `first`, `center` and `loudest` (K-weighted, to 100 ms) give one window (W = 1), which keeps up to `spare` samples
    that follow it; `mean_of_windows` gives the fewest evenly spaced windows that cover the sound, those of one sound
    side by side. A sound that is not longer stays as it is.
    """
    if policy not in LONG_CLIP:
        raise ValueError(f"long_clip is {policy!r}; known are {', '.join(LONG_CLIP)}")
    excess = sound.shape[1] - clip
    if excess <= 0:
        return sound
    if policy == "mean_of_windows":
        count = math.ceil(sound.shape[1] / clip)
        starts = [round(excess * i / (count - 1)) for i in range(count)]
        return torch.stack([row[start : start + clip] for row in sound for start in starts])
    if policy == "loudest":
        starts = _loudest_starts(sound, sample_rate, clip)
        return torch.stack([row[start : start + clip] for row, start in zip(sound, starts, strict=True)])
    start = excess // 2 if policy == "center" else 0
    return sound[:, start : start + clip + spare]


def filled(sound: Tensor, samples: int, short_clip: str) -> Tensor:
    """A sound (B, T) that is shorter than `samples`, repeated (`tile`) or followed by `silence` up to there; any other
    stays as it is."""
    missing = samples - sound.shape[1]
    if missing > 0 and short_clip == "tile":
        return sound.repeat(1, math.ceil(samples / sound.shape[1]))[:, :samples]
    return F.pad(sound, (0, missing)) if missing > 0 and short_clip == "silence" else sound


def _loudest_starts(sound: Tensor, sample_rate: int, clip: int) -> list[int]:
    """Where the window with the most K-weighted energy begins, for each sound."""
    energy = loudness.step_energy(sound[:, None], sample_rate)[:, 0]  # (B, steps of 100 ms)
    steps = min(energy.shape[1], round(clip / (loudness.STEP * sample_rate)))
    sums = F.avg_pool1d(energy[:, None], steps, stride=1)[:, 0]
    latest = sound.shape[1] - clip
    return [min(latest, round(step * loudness.STEP * sample_rate)) for step in sums.argmax(dim=1).tolist()]
