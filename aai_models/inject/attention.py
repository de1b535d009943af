"""Eq. 7 and Eq. 8 as pure functions of q, k and v; no attention map is built where two attention calls do.

Shapes: q (B, P, C) for P picture tokens, k and v (B, r*L, C). The host repeats a prompt of L tokens r times to batch it
with a longer one; softmax then gives each of the r copies its share, so that whatever is done to a column is done to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def column_factors(length: int, scales: Iterable[tuple[Sequence[int], float]]) -> Tensor:
    """Eq. 8's diagonal: (length,) product of the factors of each column, 1 where there is none.

    scales: (columns, factor) pairs; columns beyond `length` are left out, as a prompt may have been cut.
    """
    factors = torch.ones(length)
    for columns, factor in scales:
        factors[[column for column in columns if column < length]] *= factor
    return factors


def scale_columns(values: Tensor, factors: Tensor) -> Tensor:
    """Eq. 8: (B, r*L, C) with the value rows of all copies of a column times `factors` (L,).

    softmax(q k) diag(s) v = softmax(q k) (s v): scaling a value row is scaling its column of the map.
    """
    return values * copies(factors, values.shape[1]).to(values)[:, None]


def copies(factors: Tensor, length: int) -> Tensor:
    """(L,) of one prompt -> (r*L,) of all its copies in a call of `length` tokens."""
    return factors.repeat(length // factors.shape[0])


@dataclass(frozen=True)
class ColumnMix:
    """How much of its own map and of the source's maps each target column takes at one step."""

    source: Tensor  # (S, T): weight of source column s in target column t, scale included
    own: Tensor  # (T,): weight of the column's own map, scale included

    # Computed once while the tensors are on the CPU: reading them from a device would have to wait for it.
    @cached_property
    def takes(self) -> bool:
        """Whether any column takes the source's maps."""
        return bool(self.source.any())

    @cached_property
    def keeps(self) -> bool:
        """Whether any column has something of its own map."""
        return bool(self.own.any())

    @cached_property
    def neutral(self) -> bool:
        """True if the target's attention is left as it is."""
        return not self.takes and bool((self.own == 1).all())

    @cached_property
    def same(self) -> bool:
        """True if each column takes the map of its own place, so that values need no gathering."""
        rows, columns = self.source.shape
        return rows == columns and torch.equal(self.source, torch.eye(rows, dtype=self.source.dtype))

    def to(self, device, dtype: torch.dtype) -> ColumnMix:
        """The mix where it is used, with its answers read beforehand."""
        moved = replace(self, source=self.source.to(device, dtype), own=self.own.to(device, dtype))
        for name in ("takes", "keeps", "neutral", "same"):
            moved.__dict__[name] = getattr(self, name)
        return moved


def mix_columns(source: Tensor, window: Tensor, scale: Tensor, scale_outside: bool = True) -> ColumnMix:
    """The mix of one step (Eq. 7, then Eq. 8).

    source: (S, T) of AttentionRefine or AttentionReplace; window: (T,) bool, columns whose injection acts at this step;
    scale: (T,) reweighting. `scale_outside` False lets it act inside the window only, as prompt-to-prompt does.
    """
    taken = source.ne(0).any(dim=0) & window
    outside = scale if scale_outside else torch.where(window, scale, torch.ones_like(scale))
    own = torch.where(taken, torch.zeros_like(scale), torch.where(window, scale, outside))
    return ColumnMix(source * (taken * scale), own)


@dataclass(frozen=True)
class RowEdit:
    """The rows of a batch that belong to one edit, and what they take."""

    rows: slice
    mix: ColumnMix  # where the values lie, and of their type
    source: tuple[Tensor, Tensor] | None = (
        None  # the source's q (b, P, C) and k (b, r*S, C); None if `mix` takes nothing
    )


def own_factors(batch: int, length: int, edits: Sequence[RowEdit]) -> Tensor:
    """(batch, length, 1): how much of its own map each column of each row keeps; 1 for rows that are not edited."""
    factors = edits[0].mix.own.new_ones(batch, length, 1)
    for edit in edits:
        factors[edit.rows] = copies(edit.mix.own, length)[:, None]
    return factors


def inject_cross(
    attend: Attend,
    attend_source: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edits: Sequence[RowEdit],
    factors: Tensor,
    whole: bool = True,
) -> Tensor:
    """Eq. 7 for some rows of a batch, (B, P, C); all other rows keep their bits.

    own part: attend(q, k, diag(own) v); source part: attend_source(q_source, k_source, M v), both without a mask.
    factors: `own_factors` of the same edits. whole: an edit that keeps nothing of its own may take the place of its rows
    in the first call, which saves the second and gives the source's rounding; not where `attend` does more than attend.
    """
    taken = [
        (edit.rows, *edit.source, source_values(v[edit.rows], edit.mix, edit.source[1].shape[1]), edit.mix.keeps)
        for edit in edits
        if edit.source is not None
    ]
    fits = [whole and not keeps and gathered.shape[1] == k.shape[1] for *_, gathered, keeps in taken]
    swapped, added = ([p for p, fit in zip(taken, fits, strict=True) if fit is wanted] for wanted in (True, False))
    values = v if len(swapped) == len(edits) else v * factors
    if swapped:
        values = put_rows(values, [(rows, gathered) for rows, _, _, gathered, _ in swapped])
        q = put_rows(q, [(rows, q_source) for rows, q_source, *_ in swapped])
        k = put_rows(k, [(rows, k_source) for rows, _, k_source, *_ in swapped])
    out = attend(q, k, values)
    for rows, q_source, k_source, gathered, _ in added:
        out[rows].add_(attend_source(q_source, k_source, gathered))
    return out


def source_values(values: Tensor, mix: ColumnMix, length: int) -> Tensor:
    """(b, r*T, C) values of an edit's rows, gathered onto the `length` columns of the source's k: (b, r*S, C)."""
    columns, targets = mix.source.shape
    once = values[:, :targets]
    gathered = once if mix.same else mix.source @ once
    repeats = length // columns
    return gathered.repeat(1, repeats, 1) if repeats > 1 else gathered


def put_rows(batch: Tensor, pieces: Sequence[tuple[slice, Tensor]]) -> Tensor:
    """The batch with some of its rows exchanged; the given tensor is not written to.

    Where the pieces are the whole batch, a single one is given back as it is.
    """
    parts, at = [], 0
    for rows, piece in sorted(pieces, key=lambda pair: pair[0].start):
        parts += [batch[at : rows.start], piece] if rows.start > at else [piece]
        at = rows.stop
    if at < batch.shape[0]:
        parts.append(batch[at:])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def word_maps(q: Tensor, k: Tensor, heads: int, words: Tensor) -> Tensor:
    """Attention of each picture token to each of W words, mean over heads: (B, P, W), float32.

    words: (L, W) float32 on the same device, 1 at the columns of a word. Explicit maps: only for what is looked at, at a
    small resolution.
    """
    width = q.shape[-1] // heads
    q, k = (x.float().unflatten(-1, (heads, width)).transpose(1, 2) for x in (q, k))
    maps = (q @ k.transpose(-1, -2) * width**-0.5).softmax(dim=-1)
    repeats = k.shape[2] // words.shape[0]
    return maps.mean(dim=1) @ (words.repeat(repeats, 1) if repeats > 1 else words)


def word_columns(words: Sequence[Sequence[int]], length: int) -> Tensor:
    """(length, W) float32 for `word_maps`: 1 at the columns of each word."""
    chosen = torch.zeros(length, len(words))
    for index, columns in enumerate(words):
        chosen[[column for column in columns if column < length], index] = 1.0
    return chosen
