"""A sound in the place of a picture: the host's CLIP_VISION_OUTPUT with ImageBind's embedding in it."""

from __future__ import annotations

import comfy.clip_vision
import comfy.model_management as mm
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.adapt.config import require_policy
from ....aai_models.align.alignment import CLIP_H
from ....aai_models.errors import ExplainedError
from ..base.types import AudioFeature

SOUNDS = ("mean", "each")
# What a picture's output has and a sound's cannot: states of the vision model's patches.
OF_PICTURES = ("last_hidden_state", "penultimate_hidden_states", "all_hidden_states", "image_sizes")


class NoPictureError(ExplainedError, AttributeError):
    """A node asks a sound for what only a picture has."""


class SoundOutput(comfy.clip_vision.Output):
    """The host's output of a vision model, of a sound: `image_embeds` alone, (B, D) float32.

    Whoever asks for the states of patches gets a sentence; `hasattr` says no.
    """

    def __init__(self, image_embeds: Tensor):
        self.image_embeds = image_embeds
        self.mm_projected = None  # as of every vision model without a language model behind it

    def __getattr__(self, name: str):
        if name not in OF_PICTURES:
            raise AttributeError(name)
        raise NoPictureError(
            f"The next node asks for {name}, which a sound does not have",
            "A sound gives image_embeds alone, for unCLIPConditioning and for the IP-Adapter models called ViT-H or base; "
            "those called plus or face, Redux and video models need the patches of a picture",
            "Choose such a model, or connect a picture's CLIP Vision Encode",
        )


def require_same_space(feature: AudioFeature) -> None:
    """Raise `ExplainedError` unless a sound lies in the space of ViT-H's pictures."""
    if feature.aligned_with != CLIP_H:
        raise ExplainedError(
            f"{feature.encoder or 'The encoder of this sound'} does not hear in the space of CLIP Vision ViT-H",
            "Only ImageBind's sounds can stand in a picture's place",
            "Choose imagebind_huge in Load Audio Encoder (AAI), and connect it to Encode Sound",
        )


def image_embedding(feature: AudioFeature, norm: float, sounds: str, picture=None, picture_share: float = 0.0):
    """The CLIP_VISION_OUTPUT of the sounds of a feature, each row `norm` long.

    `sounds`: `mean` makes one row of all, `each` one row of each. `picture`, a CLIP_VISION_OUTPUT of ViT-H, is mixed in by
    its share (0..1): directions are mixed, then brought to `norm`; at 1 it is handed on as it is. A picture of one row goes
    with every sound. Raises `ExplainedError` for sounds and pictures of other spaces, `ValueError` for unknown policies.
    """
    require_policy("sounds", sounds, SOUNDS)
    require_same_space(feature)
    if picture is not None and picture_share >= 1.0:
        return picture
    # The mean of embeddings as published: one whose parts differ counts less.
    lengths = torch.tensor(feature.norms or (1.0,) * len(feature.vectors))
    rows = feature.vectors
    if sounds == "mean":
        rows = (rows * lengths[:, None]).mean(dim=0, keepdim=True)
    rows = F.normalize(rows, dim=-1)
    if picture is not None and picture_share > 0.0:
        seen = F.normalize(_seen(picture, rows), dim=-1)
        rows = F.normalize((1 - picture_share) * rows + picture_share * seen, dim=-1)
    return SoundOutput((norm * rows).to(mm.intermediate_device()))


def _seen(picture, rows: Tensor) -> Tensor:
    """The rows of a picture's output for each of `rows` (B, D)."""
    seen = getattr(picture, "image_embeds", None)
    if not isinstance(seen, Tensor) or seen.ndim != 2 or seen.shape[1] != rows.shape[1]:
        found = tuple(seen.shape[1:]) if isinstance(seen, Tensor) else type(seen).__name__
        raise ExplainedError(
            f"The picture's embedding has another size than the sound's: {found} and {rows.shape[1]} values",
            "Both must come from the same space, that of CLIP Vision ViT-H",
            "Encode the picture with CLIP-ViT-H-14, or with the CLIP Vision of an SD2.1-unCLIP-h checkpoint",
        )
    if seen.shape[0] not in (1, rows.shape[0]):
        raise ExplainedError(
            f"There are {seen.shape[0]} pictures and {rows.shape[0]} sounds",
            "One picture goes with all sounds, or one with each",
            "Connect one picture, or set `sounds` to each and connect as many pictures as sounds",
        )
    return seen.float().cpu()
