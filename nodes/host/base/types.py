"""The pack's wire types."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from comfy_api.latest import io
from torch import Tensor

from ....aai_models.align.aligned_text import Shares
from ....aai_models.errors import TokenError

CAVTModel = io.Custom("CAVT_MODEL")
AudioFeatureType = io.Custom("AUDIO_FEATURE")
AudioTokenType = io.Custom("AUDIO_TOKEN")
WordMapsType = io.Custom("AAI_WORD_MAPS")


@dataclass(frozen=True)
class AudioFeature:
    """The audio encoder's features of a batch of sounds."""

    vectors: Tensor  # (B, D), unit norm, float32, CPU
    encoder: str = ""  # the encoder's file name
    lufs: tuple[float, ...] = ()  # integrated loudness of each sound
    norms: tuple[float, ...] = ()  # norm of each feature before normalisation, where the encoder gives it
    centre: Tensor | None = None  # mean unit feature of many sounds, (D,), where the encoder's file has it
    aligned_with: str = ""  # the space that it lies in, of those in `align.alignment`; "": none that is known
    ear: object | None = None  # the encoder itself, which may know texts: `align.aligned_text`
    labels: tuple[Shares, ...] = ()  # of each sound, where the encoder has labels of its own

    def norm(self, index: int) -> float | None:
        """The norm of one sound's feature before it was normalised, where it is known."""
        return self.norms[index] if index < len(self.norms) else None

    @classmethod
    def joined(cls, features: list[AudioFeature]) -> AudioFeature:
        """The sounds of several features as one batch; raises `TokenError` if different encoders made them."""
        names = sorted({feature.encoder for feature in features})
        if len(names) > 1:
            raise TokenError(
                f"The sounds were encoded by {' and by '.join(names)}",
                "Sounds that share a word must come from one audio encoder",
                "Encode them all with the same encoder",
            )
        known = all(feature.norms for feature in features)
        labelled = all(feature.labels for feature in features)
        return cls(
            torch.cat([feature.vectors for feature in features]),
            features[0].encoder,
            tuple(level for feature in features for level in feature.lufs),
            tuple(norm for feature in features for norm in feature.norms) if known else (),
            features[0].centre,
            features[0].aligned_with if len({feature.aligned_with for feature in features}) == 1 else "",
            next((feature.ear for feature in features if feature.ear is not None), None),
            tuple(shares for feature in features for shares in feature.labels) if labelled else (),
        )

    def one(self, index: int) -> AudioFeature:
        """One of the sounds."""
        norm = self.norm(index)
        return replace(
            self,
            vectors=self.vectors[index : index + 1],
            lufs=self.lufs[index : index + 1],
            norms=() if norm is None else (norm,),
            labels=self.labels[index : index + 1],
        )


def expect(value, kind: type | tuple[type, ...], what: str, source: str):
    """Return `value` if it is of a `kind`; another pack may use the same name for a wire."""
    if not isinstance(value, kind):
        raise TokenError(
            f"The input {what} carries a {type(value).__name__}",
            f"It must come from {source}",
            "Connect that output",
        )
    return value
