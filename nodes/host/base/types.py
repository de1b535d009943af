"""The pack's wire types."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io
from torch import Tensor

from ....aai_models.errors import TokenError

CAVTModel = io.Custom("CAVT_MODEL")
AudioFeatureType = io.Custom("AUDIO_FEATURE")
AudioTokenType = io.Custom("AUDIO_TOKEN")
WordMapsType = io.Custom("AAI_WORD_MAPS")


@dataclass(frozen=True)
class AudioFeature:
    """What an encoder hears in a batch of sounds."""

    vectors: Tensor  # (B, D), unit norm, float32, CPU
    encoder: str  # the encoder's file name
    lufs: tuple[float, ...]  # integrated loudness of each sound
    norms: tuple[float, ...] = ()  # of each feature before it was normalised, where the encoder tells
    centre: Tensor | None = None  # mean unit feature of many sounds, (D,), where the encoder's file has it


def expect(value, kind: type | tuple[type, ...], what: str, source: str):
    """Return `value` if it is of a `kind`; another pack may use the same name for a wire."""
    if not isinstance(value, kind):
        raise TokenError(
            f"The input {what} carries a {type(value).__name__}",
            f"It must come from {source}",
            "Reconnect the wire",
        )
    return value
