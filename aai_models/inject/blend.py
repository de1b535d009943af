"""Prompt-to-prompt's LocalBlend: outside the regions where the words act, the edit equals the source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

THRESHOLD = 0.3


def word_mask(maps: Tensor, size: tuple[int, int], threshold: float = THRESHOLD) -> Tensor:
    """Accumulated word maps (B, h, w) -> bool mask (B, 1, H, W) of `size`.

    Max-pooled 3 x 3, enlarged, relative to the largest value of each picture, above `threshold`.
    """
    pooled = F.max_pool2d(maps.float().unsqueeze(1), 3, stride=1, padding=1)
    enlarged = F.interpolate(pooled, size=size, mode="nearest")
    largest = enlarged.amax(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return enlarged / largest > threshold


def local_blend(edit: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """The edit inside `mask` and exactly the source outside; (B, C, H, W), mask (B, 1, H, W) bool."""
    return torch.where(mask.to(edit.device), edit, source)
