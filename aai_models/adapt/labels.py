"""What was heard, as labels: where the sound lies among the texts of a list, and the word that stands for it.

The nearest is looked up in the space where the sound lives, not after a map into another: a softmax over the cosines to
the labels' texts at the encoder's own scale (as CLAP and CLIP classify without training). The word is then made of the
labels' own rows in each text encoder, so that it works in every one that the labels can be written for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TokenError
from ..shares import Shares, shares_of

# Measured with an untrained mixture in a sentence: it keeps its first thing for 9 of 10 at a share of 0.6.
CLEAR = 0.6
NOT_SURE = 0.35  # least share of the first; known sounds of the pocket world lie above, unknown things below
ALIKE = 0.98  # of the entropy that equal shares have
MIXED = 3  # labels that a word is made of
MAX_ROWS = 8  # of one label; a longer one becomes the mean of its rows
SHOWN = 8  # labels in a text
CANDIDATES = 24  # labels that a training may start from


@dataclass(frozen=True)
class Heard:
    """What was heard in one sound, or what a person says that it is."""

    shares: Shares  # the largest first; of what is written, in its order
    by: str = ""  # whose texts or labels
    notes: tuple[str, ...] = ()
    written: bool = False  # by a person: taken as it is

    @property
    def is_clear(self) -> bool:
        """Whether the first label can be trusted to be what sounds, if it is in the list at all."""
        return self.written or (self.shares[0][1] >= NOT_SURE and not self.is_alike)

    @property
    def is_alike(self) -> bool:
        """Whether no label stands out. One label alone does."""
        if self.written or len(self.shares) == 1:
            return False
        entropy = -sum(share * math.log(share) for _, share in self.shares if share > 0)
        return entropy > ALIKE * math.log(len(self.shares))

    @property
    def drawn(self) -> Shares:
        """The labels that the word is made of, with weights that sum to 1: the first alone where it is clear."""
        if self.written:
            return self.shares
        if self.shares[0][1] >= CLEAR:
            return ((self.shares[0][0], 1.0),)
        first = [pair for pair in self.shares[:MIXED] if pair[1] > 0]
        total = sum(share for _, share in first)
        return tuple((name, share / total) for name, share in first)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The first labels, for a training to choose from."""
        return tuple(name for name, _ in self.shares[:CANDIDATES])

    def text(self) -> list[str]:
        """What was heard, what is drawn, and how far it can be trusted."""
        drawn = told(self.drawn) if len(self.drawn) > 1 else self.drawn[0][0]
        if self.written:
            return [f"Drawn as written: {drawn}.", *self.notes]
        lines = [f"Heard: {told(self.shares[:SHOWN])}.", f"Drawn as: {drawn}."]
        if self.is_alike:
            lines.insert(
                0,
                "Nothing clear was heard: all labels are nearly alike. Write into `words` what it is, or into `labels` what "
                "it may be.",
            )
        elif not self.is_clear:
            lines.insert(0, "Not sure: no label has much of the share. If you know what it is, write it into `words`.")
        by = f", compared by {self.by}" if self.by else ""
        lines.append(f"Shares are among {len(self.shares)} labels{by}; what is not among them cannot be heard.")
        return [*lines, *self.notes]

    def metadata(self) -> dict[str, str]:
        """What a token's metadata says about it."""
        return {"heard": json.dumps(self.shares[:SHOWN]), "drawn_as": json.dumps(self.drawn), "heard_by": self.by}


def told(shares: Shares) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in shares)


def read(
    feature: Tensor, features: Tensor, names: tuple[str, ...], scale: float, temperature: float = 1.0, by: str = ""
) -> Heard:
    """What is heard in a sound: softmax(scale / temperature * cosine) over the labels.

    `feature` (D,) and `features` (N, D) are unit vectors of one space. Raises `TokenError` for other widths.
    """
    if feature.shape[-1] != features.shape[-1]:
        raise TokenError(
            f"The sound's feature has {feature.shape[-1]} values, those of the labels {features.shape[-1]}",
            "Both must come from one encoder",
            "Encode the sound again",
        )
    cosines = features.double() @ F.normalize(feature.double(), dim=-1)
    return Heard(shares_of(list(names), (cosines * scale / temperature).softmax(-1)), by)


def among(shares: Shares, names: tuple[str, ...]) -> Shares:
    """The shares of those labels alone that are in `names`, of one sum; empty where none is."""
    wanted = {name.casefold() for name in names}
    kept = [(name, share) for name, share in shares if name.casefold() in wanted]
    return shares_of([name for name, _ in kept], torch.tensor([share for _, share in kept])) if kept else ()


def tempered(heard: Heard, temperature: float) -> Heard:
    """`heard` of a tagger at another temperature: its shares to the power 1 / temperature, of one sum."""
    values = torch.tensor([share for _, share in heard.shares], dtype=torch.float64) ** (1 / temperature)
    return replace(heard, shares=shares_of([name for name, _ in heard.shares], values))


def word_rows(drawn: Shares, rows: Mapping[str, Mapping[str, Tensor]], norms: Mapping[str, float]) -> dict[str, Tensor]:
    """The word of labels, key -> (n, width) in its own size.

    `rows` label -> key -> (m, width), the rows of its tokens; `norms` key -> the median norm of the vocabulary. One label:
    its rows in order, as they are (one longer than `MAX_ROWS`: their mean). Several: one row, the weighted mean, of the
    norm.
    """
    if len(drawn) == 1:
        own = rows[drawn[0][0]]
        if all(r.shape[0] <= MAX_ROWS for r in own.values()):
            return {key: r.clone() for key, r in own.items()}
    return {key: norms[key] * mean[None] for key, mean in _means(drawn, rows).items()}


def directions(drawn: Shares, rows: Mapping[str, Mapping[str, Tensor]], vectors: int) -> dict[str, Tensor]:
    """Where a training begins, as unit vectors: key -> (width,), the weighted mean; or (vectors, width).

    The latter for one label of several tokens that `vectors` have room for: its rows in order, from the first again
    behind the last.
    """
    if len(drawn) == 1:
        own = rows[drawn[0][0]]
        if all(1 < r.shape[0] <= vectors for r in own.values()):
            return {key: F.normalize(r[torch.arange(vectors) % r.shape[0]], dim=-1) for key, r in own.items()}
    return _means(drawn, rows)


def _means(drawn: Shares, rows: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The weighted mean of the labels' mean rows as unit vectors, key -> (width,)."""
    found = {}
    for key in rows[drawn[0][0]]:
        parts = torch.stack([share * rows[name][key].mean(0) for name, share in drawn])
        found[key] = F.normalize(parts.sum(0), dim=-1)
    return found
