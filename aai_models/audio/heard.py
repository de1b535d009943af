"""Checks that the part of a sound that an encoder uses is not silent or too short."""

from __future__ import annotations

import math

from torch import Tensor

from .errors import AudioError
from .waveform import SILENCE_PEAK, to_mono
from .windows import cut_windows

SHORTEST = 0.025  # seconds; one analysis window of the encoder
SECONDS = 10.24  # checked at once


def require_heard(
    waveform: Tensor, sample_rate: int, long_clip: str = "first", channels: str = "mean", name: str = ""
) -> None:
    """Raise `AudioError` that names the clip where one of (B, C, T) is too short, or silent in the part that the encoder uses.

    Silent is a mono sound whose peak, but for a constant, lies below -100 dBFS. `long_clip`, `channels`: as
    `encoder_input`. `name`: what a single sound is called.
    """
    clips, seconds = waveform.shape[0], waveform.shape[-1] / sample_rate
    called = [name or "The sound"] if clips == 1 else [f"Sound {k} of {clips}" for k in range(1, clips + 1)]
    if seconds < SHORTEST:
        raise AudioError(
            f"{called[0] if clips == 1 else 'Each sound'} lasts {1000 * seconds:.3g} ms",
            f"The encoder needs at least {1000 * SHORTEST:.0f} ms",
            "Choose a longer part of the recording",
        )
    mono = to_mono(waveform, channels)
    whole = _peaks(mono)  # (B,)
    clip = math.ceil(SECONDS * sample_rate)
    part = whole if long_clip == "mean_of_windows" else _peaks(cut_windows(mono, sample_rate, clip, long_clip))
    silent = [k for k in range(clips) if not float(part[k]) >= SILENCE_PEAK]
    if not silent:
        return
    names = ", ".join(called[k] for k in silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
    verb = "is" if len(silent) == 1 else "are"
    elsewhere = seconds > SECONDS and any(float(whole[k]) >= SILENCE_PEAK for k in silent)
    raise AudioError(
        f"{names} {verb} silent" + (f" in the {SECONDS:g} s that the encoder uses ({long_clip})" if elsewhere else ""),
        "A word needs a sound that can be heard",
        "Set `long_clip` to loudest, or choose another part of the recording"
        if elsewhere
        else "Choose another part of the recording with `start` and `duration`"
        + (", or leave the silent sound out of the batch" if clips > 1 else ""),
    )


def _peaks(mono: Tensor) -> Tensor:
    """(B, T) -> (B,)"""
    return (mono - mono.mean(dim=-1, keepdim=True)).abs().amax(dim=-1)
