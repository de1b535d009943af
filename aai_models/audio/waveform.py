"""The host's AUDIO type, checked: {"waveform": (B, C, T), "sample_rate": int}."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import AudioError

MONO = ("mean", "first")
HIGHEST_RATE = 768_000  # Hz
MOST_CHANNELS = 64  # sixth-order ambisonics has 49
LOUDEST = 100.0  # peak of a float waveform, +40 dB over full scale: what is louder has another scale
SILENCE_PEAK = 1e-5  # -100 dBFS
CANCELLED = 0.1  # of the energy that unrelated channels keep in their mean; below it they cancel each other
FULL_SCALE = {torch.uint8: 2**7, torch.int8: 2**7, torch.int16: 2**15, torch.int32: 2**31}


def as_waveform(audio) -> tuple[Tensor, int]:
    """AUDIO -> waveform (B, C, T) float32 on CPU, sample rate in Hz. The input is never changed.

    Takes any mapping, (C, T) and (T,) too. Integers of 8, 16 and 32 bits are divided by their full scale, as decoding does.
    Raises `AudioError` for None (a video without sound), wrong shapes, channels after samples, no samples, impossible
    rates, NaN or infinity, and floats at the scale of integers.
    """
    if audio is None:
        raise AudioError(
            "There is no sound (a video without a sound track)", "A sound is needed", "Connect another one"
        )
    try:
        waveform, sample_rate = audio["waveform"], audio["sample_rate"]
    except (TypeError, KeyError, IndexError):
        raise AudioError(
            f"The audio input carries a {type(audio).__name__} without waveform and sample_rate",
            "It must be ComfyUI's AUDIO",
            "Connect the output of a node that loads sound",
        ) from None
    waveform, sample_rate = _shaped(waveform), _rate(sample_rate)
    waveform = _scaled(waveform.detach().to("cpu"))
    _require_samples(waveform)
    return waveform, sample_rate


def _shaped(waveform) -> Tensor:
    """(B, C, T), of any type."""
    if not isinstance(waveform, Tensor) or not 1 <= waveform.ndim <= 3:
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise AudioError(f"The waveform is {shape}", "It must be a tensor (batch, channels, samples)")
    waveform = waveform.reshape(*(1,) * (3 - waveform.ndim), *waveform.shape)
    shape = tuple(waveform.shape)
    if 0 in shape:
        raise AudioError(
            f"The sound is empty: its shape is {shape}",
            "It needs at least one sample",
            "Choose another part of the recording",
        )
    if shape[1] > MOST_CHANNELS or (shape[1] > 8 >= shape[2]):
        raise AudioError(
            f"The waveform has the shape {shape}: {shape[1]} channels of {shape[2]} sample{'s' * (shape[2] > 1)}",
            f"Its order is (batch, channels, samples), with at most {MOST_CHANNELS} channels",
            "The node that made it put the channels last: exchange the last two axes",
        )
    return waveform


def _rate(sample_rate) -> int:
    """A rate in whole Hz from whatever number says it."""
    try:
        plain = not isinstance(sample_rate, (bool, str, bytes, list, tuple)) and getattr(sample_rate, "ndim", 0) == 0
        value = float(sample_rate) if plain else None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        value = None
    if value is None:
        raise AudioError(
            f"The sample rate is {str(sample_rate)[:40]!r}, a {type(sample_rate).__name__}",
            "It must be one number in Hz, such as 44100",
            "Connect the output of a node that loads sound",
        )
    if not 1 <= value <= HIGHEST_RATE:  # also refuses NaN
        raise AudioError(f"The sample rate is {sample_rate} Hz", f"It must lie between 1 and {HIGHEST_RATE} Hz")
    return round(value)


def _scaled(waveform: Tensor) -> Tensor:
    """float32, with integers of a known scale brought to [-1, 1)."""
    if waveform.dtype in FULL_SCALE:
        scale = FULL_SCALE[waveform.dtype]
        offset = scale if waveform.dtype == torch.uint8 else 0
        return ((waveform.double() - offset) / scale).float()
    if not waveform.is_floating_point():
        raise AudioError(
            f"The samples are of the type {str(waveform.dtype).removeprefix('torch.')}",
            "Samples must be floats from -1 to 1, or integers of 8, 16 or 32 bits",
            "Convert them to float32",
        )
    return waveform.to(torch.float32)


def _require_samples(waveform: Tensor) -> None:
    """Raise `AudioError` unless every sample is a number at the scale of sounds."""
    low, high = (float(value) for value in torch.aminmax(waveform))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise AudioError(
            f"{int((~torch.isfinite(waveform)).sum())} of {waveform.numel()} samples are NaN or infinite",
            "Every sample must be finite",
            "Export the recording again",
        )
    peak = max(-low, high)
    whole = peak >= 2 and waveform.numel() > 1 and bool((waveform == waveform.round()).all())
    if peak > LOUDEST or whole:
        scale = next((f"1/{scale}" for scale in sorted({*FULL_SCALE.values()}) if peak <= scale), "a smaller factor")
        raise AudioError(
            f"The samples reach {peak:.6g}" + (" and are all whole numbers" if whole else ""),
            "Float samples must lie between -1 and 1; these look like integers, or are not a sound",
            f"Multiply them by {scale} before they come here, or export the recording again",
        )


def to_mono(waveform: Tensor, policy: str = "mean") -> Tensor:
    """(..., C, T) -> (..., T) by the `mean` of the channels or the `first` one.

    Where channels of a clip cancel in their mean (stereo of opposite phase), it is the loudest channel.
    """
    if policy not in MONO:
        raise ValueError(f"channels is {policy!r}; known are {', '.join(MONO)}")
    if policy == "first":
        return waveform[..., 0, :]
    mean = waveform.mean(dim=-2)
    if waveform.shape[-2] == 1:
        return mean
    apart = waveform - waveform.mean(dim=-1, keepdim=True)
    energies = apart.square().mean(dim=-1)  # (..., C); a constant is not heard
    kept = (mean - mean.mean(dim=-1, keepdim=True)).square().mean(dim=-1)  # (...)
    cancelled = kept * waveform.shape[-2] < CANCELLED * energies.mean(dim=-1)
    if not bool(cancelled.any()):
        return mean
    loudest = energies.argmax(dim=-1)[..., None, None].expand(*mean.shape[:-1], 1, mean.shape[-1])
    return torch.where(cancelled[..., None], waveform.gather(-2, loudest).squeeze(-2), mean)
