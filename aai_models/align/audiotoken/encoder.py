"""How AudioToken hears: which seconds of a sound, and what it says of them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...audio.fbank import MEL_BINS, SAMPLE_RATE, mono_sound, resampling_reach
from ...audio.resample import resample
from ...audio.windows import cut_windows, filled
from ..encoders import DISTINCT
from ..self_test import require_two
from .beats import PATCH, beats_input

SECONDS = 10  # of a sound that are heard at once, as the published code does
SAMPLES = SECONDS * SAMPLE_RATE


def audiotoken_input(
    waveform: Tensor,
    sample_rate: int,
    short_clip: str = "tile",
    long_clip: str = "first",
    channels: str = "mean",
    level: str = "as_recorded",
) -> Tensor:
    """Sounds (B, C, T) at any rate (Hz) -> log-mel (B, W, 998, 128) of W windows of 10 seconds each.

    Policies are those of `audio.fbank.encoder_input`; `pad_reference` repeats a short sound, as `tile` does: AudioToken
    was trained so.
    """
    mono, sample_rate = mono_sound(waveform, sample_rate, short_clip, long_clip, channels, level)
    clip = math.ceil(SECONDS * sample_rate)
    cut = cut_windows(mono, sample_rate, clip, long_clip, spare=resampling_reach(sample_rate))
    sound = resample(cut, sample_rate, SAMPLE_RATE)[:, :SAMPLES]  # (B * W, T')
    sound = filled(sound, SAMPLES, "silence" if short_clip == "silence" else "tile")
    return beats_input(sound).unflatten(0, (mono.shape[0], -1))


def unlike_inputs() -> Tensor:
    """Two quite different log-mels (2, 96, 128) of about a second."""
    noise = torch.randn(2, 6 * PATCH, MEL_BINS, generator=torch.Generator().manual_seed(0))
    noise[1] = noise[1] * 0.5 + torch.linspace(2.0, -2.0, MEL_BINS)
    return noise


def require_different(rows: Tensor) -> None:
    """Raise `CheckpointError` if the rows (2, width) of `unlike_inputs` are alike, as those of empty weights are."""
    require_two(F.normalize(rows.float(), dim=-1), "hears", "sounds", apart=DISTINCT)
