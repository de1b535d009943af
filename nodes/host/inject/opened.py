"""Which of an edit's windows are open at a sigma."""

from __future__ import annotations

from dataclasses import dataclass

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
    wanted = {window for edit in edits for window in edit.windows}
    now_open = frozenset(window for window in wanted if windows.is_open(*window, sigma))
    takes_cross = any(not edit.taking.isdisjoint(now_open) for edit in edits)
    return Opened(now_open, takes_cross, windows.is_open(settings.self_start, settings.self_end, sigma))


def tokens_at(extra: dict, factor: int) -> int:
    """Picture tokens of a layer that is `factor` times smaller than the latent."""
    height, width = extra["original_shape"][-2:]
    return -(-height // factor) * -(-width // factor)


def is_small(q: Tensor, extra: dict, settings: EditSettings) -> bool:
    """Whether self-attention is injected at a layer of this size."""
    return q.shape[1] <= tokens_at(extra, settings.self_downsample)
