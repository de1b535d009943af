"""The host's AUDIO type, checked: {"waveform": (B, C, T), "sample_rate": int}."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import AudioError

MONO = ("mean", "first")
HIGHEST_RATE = 768_000  # Hz


def as_waveform(audio) -> tuple[Tensor, int]:
    """AUDIO -> waveform (B, C, T) float32 on CPU, sample rate in Hz. The input is never changed.

    Takes any mapping, (C, T) and (T,) too. Raises `AudioError` for None (a video without sound), wrong shapes, no
    samples, impossible rates, and samples that are not numbers.
    """
    if audio is None:
        raise AudioError(
            "There is no sound (a video without a sound track)", "A sound is needed", "Connect another one"
        )
    try:
        waveform, sample_rate = audio["waveform"], audio["sample_rate"]
    except (TypeError, KeyError):
        raise AudioError(
            f"The audio input carries a {type(audio).__name__} without waveform and sample_rate",
            "It must be ComfyUI's AUDIO",
            "Connect the output of a node that loads sound",
        ) from None
    if not isinstance(waveform, Tensor) or not 1 <= waveform.ndim <= 3:
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise AudioError(f"The waveform is {shape}", "It must be a tensor (batch, channels, samples)")
    waveform = waveform.detach().to("cpu", torch.float32)
    waveform = waveform.reshape(*(1,) * (3 - waveform.ndim), *waveform.shape)
    if 0 in waveform.shape:
        raise AudioError(
            f"The sound is empty: its shape is {tuple(waveform.shape)}",
            "It needs at least one sample",
            "Choose another part of the recording",
        )
    if not 1 <= sample_rate <= HIGHEST_RATE:  # also refuses NaN
        raise AudioError(f"The sample rate is {sample_rate} Hz", f"It lies between 1 and {HIGHEST_RATE} Hz")
    # The sum alone is looked at first: it is finite if every sample is, unless they are huge.
    if not math.isfinite(float(waveform.sum())) and (bad := int((~torch.isfinite(waveform)).sum())):
        raise AudioError(
            f"{bad} of {waveform.numel()} samples are not numbers",
            "Every sample must be finite",
            "Export the recording again",
        )
    return waveform, int(sample_rate)


def to_mono(waveform: Tensor, policy: str = "mean") -> Tensor:
    """(..., C, T) -> (..., T) by the `mean` of the channels or the `first` one."""
    if policy not in MONO:
        raise ValueError(f"channels is {policy!r}; known are {', '.join(MONO)}")
    return waveform.mean(dim=-2) if policy == "mean" else waveform[..., 0, :]
