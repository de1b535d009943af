"""Pictures for ImageBind's sounds: the host's CLIP Vision ViT-H, which sees in the same space."""

from __future__ import annotations

import comfy.clip_model
import comfy.model_management as mm
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.align.images import MEAN, STD
from ....aai_models.errors import LibraryError
from ..base.digest import weights_digest


class VisionSide:
    """An encoder of sounds together with a CLIP_VISION of its space, as a library of pictures needs them."""

    has_images = True

    def __init__(self, encoder, vision):
        _require_vit_h(vision, encoder.dim)
        self.name, self.dim, self._vision = encoder.name, encoder.dim, vision

    @property
    def picture_hash(self) -> str:
        """By which an index of pictures knows what saw them."""
        return f"CLIP Vision {weights_digest(self._vision.model)}"

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, 224, 224), ImageNet-normalised -> unit vectors (B, D), float32, CPU."""
        mm.throw_exception_if_processing_interrupted()
        std, mean = (torch.tensor(values).view(3, 1, 1) for values in (STD, MEAN))
        image = (pixels.float().cpu() * std + mean).clamp(0, 1).movedim(1, -1)
        return F.normalize(self._vision.encode_image(image)["image_embeds"].float().cpu(), dim=-1)


def _require_vit_h(vision, dim: int) -> None:
    """Raise `LibraryError` for vision models of another kind or width; models of the same size cannot be told apart."""
    model = getattr(vision, "model", None)
    projection = getattr(model, "visual_projection", None)
    width = getattr(projection, "out_features", None)
    if isinstance(model, comfy.clip_model.CLIPVisionModelProjection) and width == dim:
        return
    found = f"features of {width} values" if width else "another kind of features"
    raise LibraryError(
        f"The model on `clip_vision` gives {found}",
        f"ImageBind's sounds lie among the {dim} values of OpenCLIP ViT-H",
        "Choose CLIP-ViT-H-14-laion2B-s32B-b79K in Load CLIP Vision, or the CLIP Vision of an SD2.1-unCLIP-h checkpoint",
    )
