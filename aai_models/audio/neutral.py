"""A neutral set of sounds: of many kinds and of none in particular, to measure where an encoder's sounds lie on the whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RATE = 48000  # Hz, that of the encoders that need the set
KINDS, SHAPES = 4, 5
COUNT = 2 * KINDS * SHAPES  # sounds, a second each


def neutral_sounds() -> Tensor:
    """Noises, tones, glides and clicks, each steady, swelling, dying away, in bursts and fluttering, low and high.

    (40, 1, 48000) float32 within -1..1, 48 kHz; the same on every call.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(COUNT):
        high = number >= KINDS * SHAPES
        sound = _source(number % KINDS, high, generator) * _shape(number // KINDS % SHAPES, generator)
        found.append(0.5 * sound / sound.abs().max())
    return torch.stack(found)[:, None].float()


def _source(kind: int, high: bool, generator: torch.Generator) -> Tensor:
    """A second of one kind (n,)."""
    time = torch.arange(RATE) / RATE
    pitch = (700.0 if high else 90.0) * 2 ** float(2 * torch.rand(1, generator=generator))  # Hz
    if kind == 0:
        spectrum = torch.fft.rfft(torch.randn(RATE, generator=generator))
        hertz = torch.arange(len(spectrum)).clamp_min(20.0)
        return torch.fft.irfft(spectrum * (hertz / pitch) ** (0.0 if high else -1.0) * (hertz < 15000))
    if kind == 1:
        wobble = 0.02 * torch.sin(2 * math.pi * 5.5 * time)
        return _harmonics(pitch * (1 + wobble))
    if kind == 2:
        return _harmonics(pitch * 2 ** torch.sin(2 * math.pi * 1.5 * time))
    clicks = torch.zeros(RATE)
    clicks[torch.randint(0, RATE, (60 if high else 8,), generator=generator)] = 1.0
    ring = torch.exp(-time[:4800] * 60) * torch.sin(2 * math.pi * pitch * time[:4800])
    return torch.fft.irfft(torch.fft.rfft(clicks, 2 * RATE) * torch.fft.rfft(ring, 2 * RATE))[:RATE]


def _harmonics(hertz: Tensor) -> Tensor:
    """Six partials over a curve of pitch (n,)."""
    phase = 2 * math.pi * torch.cumsum(hertz.double(), 0) / RATE
    return torch.stack([torch.sin(k * phase) / k for k in range(1, 7)]).sum(0).float()


def _shape(shape: int, generator: torch.Generator) -> Tensor:
    """How loud it is in time (n,), 0.05..1."""
    time = torch.arange(RATE) / RATE
    rate = 3 + 5 * float(torch.rand(1, generator=generator))  # a second
    curves = (
        torch.ones(RATE),
        time,
        torch.exp(-4 * time),
        (torch.sin(2 * math.pi * rate * time) > 0).float(),
        0.5 + 0.5 * torch.sin(2 * math.pi * 5 * rate * time),
    )
    return curves[shape].clamp_min(0.05)
