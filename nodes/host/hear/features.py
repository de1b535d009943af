"""Sounds as the encoder hears them, with all that later nodes may ask of it."""

from __future__ import annotations

from torch import Tensor

from ....aai_models.align.aligned_text import HasLabels
from ....aai_models.audio.loudness import integrated
from ..base.types import AudioFeature


def hear(encoder, waveform: Tensor, sample_rate: int, **policies: str) -> AudioFeature:
    """The features of sounds (B, C, T); `policies` as those of `AudioEncoder.encode`. Can be cancelled between sounds."""
    lufs = tuple(integrated(waveform, sample_rate).tolist())
    vectors, norms = encoder.hear(waveform, sample_rate, **policies)
    labels = encoder.label_shares(waveform, sample_rate, **policies) if isinstance(encoder, HasLabels) else ()
    return AudioFeature(vectors, encoder.name, lufs, norms, encoder.centre, encoder.aligned_with, encoder, labels)
