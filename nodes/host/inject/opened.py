"""Which of an edit's windows are active at a sigma."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..base.rows import Windows
from .edits import Edit, EditSettings


@dataclass(frozen=True)
class Opened:
    """What is to be recorded and injected at one call of the model."""

    windows: frozenset[tuple[float, float]] = frozenset()  # of words, in percent
    cross: bool = False  # whether any edit takes a map of cross-attention
    self_attention: bool = False


def opened_at(sigma: float, windows: Windows, edits: list[Edit], settings: EditSettings) -> Opened:
    """The windows of all edits that are open at a sigma."""
    wanted = frozenset().union(*(edit.all_windows for edit in edits))
    now_open = frozenset(window for window in wanted if windows.is_open(*window, sigma))
    takes_cross = any(not edit.taking.isdisjoint(now_open) for edit in edits)
    return Opened(now_open, takes_cross, windows.is_open(settings.self_start, settings.self_end, sigma))


def tokens_at(extra: dict, factor: int) -> int:
    """Picture tokens of a layer that is `factor` times smaller than the latent."""
    height, width = extra["original_shape"][-2:]
    return -(-height // factor) * -(-width // factor)


def whole_picture(maps: Tensor, entry: dict, factor: int, size: tuple[int, int]) -> Tensor | None:
    """Maps (..., h, w) of a conditioning for an area, at its place in a picture of that latent size, and nothing elsewhere.

    None where another node lets the model see parts of the picture whose place is not known.
    """
    height, width = (-(-side // factor) for side in size)
    if maps.shape[-2:] == (height, width):
        return maps
    area = entry.get("area")  # height, width, top, left in the latent
    if area is None or len(area) != 4:
        return None
    top, left = area[2] // factor, area[3] // factor
    part = maps[..., : height - top, : width - left]
    return F.pad(part, (left, width - left - part.shape[-1], top, height - top - part.shape[-2]))


def is_small(q: Tensor, extra: dict, settings: EditSettings) -> bool:
    """Whether self-attention is injected at a layer of this size."""
    return q.shape[1] <= tokens_at(extra, settings.self_downsample)
