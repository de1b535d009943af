"""Shares with their uncertainty, rank correlation, and the rows of the scoreboard."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Row:
    """One line: a figure with its interval, and the bounds that it lies between."""

    name: str
    value: float
    interval: tuple[float, float]  # 95 %
    count: int
    goal: str
    upper: str = "-"  # the plain word's figure
    random: str = "-"  # a random token's
    chance: str = "-"
    digits: int = 2
    sheet: tuple[np.ndarray, list[str]] | None = field(default=None, repr=False)  # pictures and what the judge said
    together: int = 0  # so many pictures of the sheet belong into one line, in their order; 0: none do

    def cells(self) -> list[str]:
        low, high = self.interval
        return [
            self.name,
            f"{self.value:.{self.digits}f}",
            "-" if math.isnan(low) else f"{low:.{self.digits}f}..{high:.{self.digits}f}",
            str(self.count),
            self.goal,
            self.upper,
            self.random,
            self.chance,
        ]


def wilson(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, right / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(name: str, right, goal: str, of=None, **bounds) -> Row:
    """A row from a list of hits and misses; `of` as in `mean`."""
    right = [bool(r) for r in right]
    if of is not None:
        return mean(name, right, goal, of, **bounds)
    return Row(name, sum(right) / len(right), wilson(sum(right), len(right)), len(right), goal, **bounds)


def mean(name: str, values, goal: str, of=None, **bounds) -> Row:
    """A row from numbers, with the interval of their mean by bootstrap.

    `of`: what each number belongs to (a word, a recording), where several come from one; that is then what is drawn
    anew, as pictures of one word are no independent witnesses.
    """
    values = np.asarray(values, float)
    rng = np.random.default_rng(0)
    groups = np.unique(np.arange(len(values)) if of is None else np.asarray(of), return_inverse=True)[1]
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    chosen = rng.integers(len(counts), size=(2000, len(counts)))
    low, high = np.quantile(sums[chosen].sum(1) / counts[chosen].sum(1), (0.025, 0.975))
    return Row(name, float(values.mean()), (float(low), float(high)), len(values), goal, **bounds)


def percent(right) -> str:
    """A share as a bound is written."""
    return f"{np.mean(right):.2f}"


def spearman(x, y) -> float:
    """Rank correlation of two sequences without ties in x."""
    ranks = [np.argsort(np.argsort(v)) for v in (np.asarray(x), np.asarray(y))]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
