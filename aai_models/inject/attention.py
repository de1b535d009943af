"""Eq. 7 and Eq. 8 as pure functions of q, k and v; no attention map is built where two attention calls do.

Shapes: q (B, P, C) for P picture tokens, k and v (B, r*L, C). The host repeats a prompt of L tokens r times to batch it
with a longer one; softmax then gives each of the r copies its share, so that whatever is done to a column is done to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ColumnMix:
    """How much of its own map and of the source's maps each target column takes at one step."""

    source: Tensor  # (S, T): weight of source column s in target column t, scale included
    own: Tensor  # (T,): weight of the column's own map, scale included

    @property
    def neutral(self) -> bool:
        """True if the target's attention is left as it is."""
        return not bool(self.source.any()) and bool((self.own == 1).all())


def mix_columns(source: Tensor, window: Tensor, scale: Tensor, scale_outside: bool = True) -> ColumnMix:
    """The mix of one step (Eq. 7, then Eq. 8).

    source: (S, T) of AttentionRefine or AttentionReplace; window: (T,) bool, columns whose injection acts at this step;
    scale: (T,) reweighting. `scale_outside` False lets it act inside the window only, as prompt-to-prompt does.
    """
    taken = source.ne(0).any(dim=0) & window
    outside = scale if scale_outside else torch.where(window, scale, torch.ones_like(scale))
    own = torch.where(taken, torch.zeros_like(scale), torch.where(window, scale, outside))
    return ColumnMix(source * (taken * scale), own)


def scale_columns(values: Tensor, scale: Tensor) -> Tensor:
    """Eq. 8: (B, r*L, C) with the value rows of all copies of a column times `scale` (L,).

    softmax(q k) diag(s) v = softmax(q k) (s v): scaling a value row is scaling its column of the map.
    """
    repeats = values.shape[1] // scale.shape[0]
    return values * scale.to(values).repeat(repeats)[:, None]


def source_values(values: Tensor, mix: ColumnMix, source_tokens: int) -> Tensor:
    """(B, r*T, C) values of the target, gathered onto the source's columns: (B, source_tokens, C)."""
    columns, targets = mix.source.shape
    gathered = mix.source.to(values) @ values[:, :targets]
    return gathered.repeat(1, source_tokens // columns, 1)


def inject_cross(attend: Attend, q: Tensor, k: Tensor, v: Tensor, q_source: Tensor, k_source: Tensor, mix: ColumnMix):
    """Eq. 7: attention of the target whose columns follow `mix`; (B, P, C).

    own part: attend(q, k, diag(own) v); source part: attend(q_source, k_source, M v). `attend(q, k, v)` is any
    attention without a mask.
    """
    own = attend(q, k, scale_columns(v, mix.own))
    return own + attend(q_source, k_source, source_values(v, mix, k_source.shape[1]))


def column_maps(q: Tensor, k: Tensor, heads: int, columns: list[int], tokens: int) -> Tensor:
    """Attention of each picture token to `columns` of a prompt of `tokens`, mean over heads: (B, P, len(columns)), float32.

    Explicit maps: only for what is looked at, at a small resolution.
    """
    width = q.shape[-1] // heads
    q, k = (x.float().unflatten(-1, (heads, width)).transpose(1, 2) for x in (q, k))
    maps = (q @ k.transpose(-1, -2) * width**-0.5).softmax(dim=-1).mean(dim=1)
    return maps.unflatten(-1, (-1, tokens)).sum(dim=-2)[..., columns]
