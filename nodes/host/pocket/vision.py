"""The image tower of the pocket's encoder as ComfyUI's CLIP_VISION: it shares a space with the pocket's CLIP."""

from __future__ import annotations

import comfy.clip_vision
import comfy.model_management as mm
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.align.images import MEAN, SIZE, STD
from ..base.loading import load_model
from ..hear.encoders import HostedCAVT


class PocketVision(comfy.clip_vision.ClipVisionModel):
    """Shares its weights and its place in memory with the encoder."""

    def __init__(self, encoder: HostedCAVT):
        # Not the base's constructor: it builds a tower of its own.
        self.model, self.patcher, self.load_device = encoder.model, encoder.patcher, encoder.patcher.load_device
        self.dtype = next(encoder.model.parameters()).dtype
        self.image_size, self.image_mean, self.image_std = SIZE, list(MEAN), list(STD)
        self.model_type, self.return_all_hidden_states = "cavt_mae", False
        self.config = {"model_type": self.model_type, "image_size": SIZE}

    def encode_image(self, image: Tensor, crop: bool = True) -> comfy.clip_vision.Output:
        """Pictures (B, H, W, 3) in 0..1 -> the host's output: `image_embeds` (B, D) unit vectors, states (B, 49, D)."""
        load_model(self.patcher)
        statistics = {"mean": self.image_mean, "std": self.image_std}
        pixels = comfy.clip_vision.clip_preprocess(
            image.to(self.load_device).float(), size=SIZE, crop=crop, **statistics
        )
        before = self.model.image_states(pixels)
        states = self.model.shared_states(before, "v")
        output, device = comfy.clip_vision.Output(), mm.intermediate_device()
        output["penultimate_hidden_states"], output["last_hidden_state"] = before.to(device), states.to(device)
        output["image_embeds"] = F.normalize(states.mean(dim=1).float(), dim=-1).to(device)
        output["image_sizes"], output["mm_projected"] = [pixels.shape[1:]] * len(pixels), None
        return output
