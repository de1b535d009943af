"""Band-limited resampling by a Hann-windowed sinc; its figures equal torchaudio's defaults (`sinc_interp_hann`)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

ZERO_CROSSINGS = 6  # of the sinc on each side
ROLLOFF = 0.99  # cut-off below the lower of both Nyquist frequencies
TAPS_AT_ONCE = 2**24  # kernel values held at a time; odd ratios have very many phases


@lru_cache(maxsize=8)
def _kernel(source: int, target: int) -> tuple[Tensor, int]:
    """Filters (target phases, taps) for the reduced ratio, and how far they reach to each side of a sample."""
    cutoff = min(source, target) * ROLLOFF
    reach = math.ceil(ZERO_CROSSINGS * source / cutoff)
    # In float32, as torchaudio computes it: in float64 some ratios differ from what encoders were trained with by 1e-4.
    taps = torch.arange(-reach, reach + source, dtype=torch.float32) / source
    phases = -torch.arange(target, dtype=torch.float32)[:, None] / target
    return _windowed_sinc((phases + taps) * cutoff) * (cutoff / source), reach


def _windowed_sinc(x: Tensor) -> Tensor:
    """sinc(x) under a Hann window that ends at +-ZERO_CROSSINGS."""
    x = x.clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    return torch.sinc(x) * torch.cos(x * math.pi / ZERO_CROSSINGS / 2) ** 2


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """(..., T) at `from_rate` -> (..., ceil(T * to_rate / from_rate)) at `to_rate`, rates in Hz; equal rates change nothing."""
    if from_rate == to_rate:
        return waveform
    divisor = math.gcd(from_rate, to_rate)
    source, target = from_rate // divisor, to_rate // divisor
    length = math.ceil(waveform.shape[-1] * target / source)
    flat = waveform.reshape(-1, waveform.shape[-1])
    if target * source > TAPS_AT_ONCE:
        result = _resample_sample_by_sample(flat, source, target, length)
    else:
        kernel, reach = _kernel(source, target)
        padded = F.pad(flat, (reach, reach + source))
        frames = F.conv1d(padded[:, None], kernel.to(flat)[:, None], stride=source)  # (B, phases, frames)
        result = frames.transpose(1, 2).reshape(flat.shape[0], -1)[:, :length]
    return result.reshape(*waveform.shape[:-1], length)


def _resample_sample_by_sample(flat: Tensor, source: int, target: int, length: int) -> Tensor:
    """The same filter where the ratio hardly reduces: each output sample gathers its own neighbours."""
    cutoff = min(1.0, target / source) * ROLLOFF
    reach = math.ceil(ZERO_CROSSINGS / cutoff)
    padded = F.pad(flat, (reach, reach + 1))
    offsets = torch.arange(-reach, reach + 1)
    parts = []
    for chunk in torch.arange(length).split(max(1, TAPS_AT_ONCE // (2 * reach + 1) // max(1, flat.shape[0]))):
        numerator = chunk * source
        nearest = torch.div(numerator, target, rounding_mode="floor")
        fraction = (numerator - nearest * target).double() / target
        weights = _windowed_sinc((offsets[None] - fraction[:, None]) * cutoff) * cutoff
        windows = padded[:, (nearest[:, None] + offsets[None] + reach).clamp(max=padded.shape[1] - 1)]
        parts.append((windows * weights.to(flat)).sum(dim=-1))
    return torch.cat(parts, dim=-1)
