"""What all encoders in ComfyUI's care share: their patcher's class, the type of their weights, a check of what they give."""

from __future__ import annotations

from collections.abc import Iterable

import comfy.model_management as mm
import comfy.model_patcher
import torch
from torch import Tensor

from ....aai_models.audio.errors import AudioError

# Weights that are streamed where the host can; absent before that came.
Streamed = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def storage_type(tensors: Iterable[Tensor]) -> torch.dtype:
    """The type in which the host keeps an encoder's weights; on a processor that of the file.

    A file in fp32 keeps its precision where the host would not gain from less.
    """
    device = mm.text_encoder_device()
    if device.type != "cpu":
        return mm.text_encoder_dtype(device)
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def finite(features: Tensor) -> Tensor:
    """Features (B, D) as they are; raises `AudioError` for NaN or infinity, which would spoil the word."""
    wrong = (~features.isfinite()).any(dim=-1).nonzero().flatten().tolist()
    if wrong:
        raise AudioError(
            f"The audio encoder gave NaN or infinity for part {wrong[0] + 1} of {features.shape[0]}",
            "Every value of a feature must be finite",
            "Check the sound. If it is intact, start ComfyUI with --fp32-text-enc or download the encoder again",
        )
    return features
