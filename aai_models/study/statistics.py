"""Means with intervals, paired tests, agreement and the size of a study. Quantiles and permutations are SciPy's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95  # of every interval
DRAWS = 10_000  # of a bootstrap, and of a permutation test that is too large to go through


class Estimate(NamedTuple):
    """A value with its interval; nan where it cannot be known."""

    value: float
    low: float
    high: float
    count: int  # of what it was taken over: participants, or sounds


class Paired(NamedTuple):
    """Two methods compared over the same participants, or the same sounds."""

    first: str
    second: str
    difference: float  # mean of first - second
    low: float
    high: float
    effect: float  # Cohen's d of the differences
    p: float  # two-sided, of the sign-flip permutation test
    p_holm: float  # corrected for the number of pairs (Holm, 1979)
    count: int


def t_interval(values: Sequence[float]) -> Estimate:
    """The mean of independent values with Student's interval."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else math.nan, math.nan, math.nan, len(x))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Estimate(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x))


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean with the percentile interval of a bootstrap over `values`, each of which stands for one cluster."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else math.nan, math.nan, math.nan, len(x))
    draws = np.random.default_rng(seed).integers(0, len(x), (DRAWS, len(x)))
    low, high = np.quantile(x[draws].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(x.mean()), float(low), float(high), len(x))


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the mean of paired differences, by flipping their signs: all of them up to 13 pairs, else at random.

    nan for fewer than two pairs.
    """
    x = np.asarray(differences, float)
    if len(x) < 2:
        return math.nan
    if not x.any():
        return 1.0
    generator = np.random.default_rng(seed)
    found = stats.permutation_test(
        (x,),
        lambda sample, axis=-1: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=DRAWS,
        random_state=generator,
    )
    return float(found.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's method; nan stays nan and counts for nothing."""
    known = [i for i, p in enumerate(ps) if not math.isnan(p)]
    corrected, worst = [math.nan] * len(ps), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: ps[i])):
        worst = max(worst, min(1.0, (len(known) - rank) * ps[i]))
        corrected[i] = worst
    return corrected


def compare_pairs(table: dict[str, dict]) -> list[Paired]:
    """Every two methods over what both have. `table`: method -> participant or sound -> value."""
    found = []
    for first, second in combinations(table, 2):
        shared = [key for key in table[first] if key in table[second]]
        x = np.array([table[first][key] - table[second][key] for key in shared], float)
        mean, low, high, count = t_interval(list(x))
        spread = float(x.std(ddof=1)) if len(x) > 1 else math.nan
        effect = mean / spread if spread > 0 else math.nan
        found.append(Paired(first, second, mean, low, high, effect, sign_flip_p(list(x)), math.nan, count))
    corrected = holm([pair.p for pair in found])
    return [pair._replace(p_holm=p) for pair, p in zip(found, corrected, strict=True)]


def krippendorff_alpha(ratings: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of ratings (raters, units), nan where there is none; nan if no unit has two ratings.

    `level` of measurement: `nominal` or `ordinal`. Krippendorff, Content Analysis, ch. 12: 1 is perfect agreement, 0 what
    chance gives.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == values).sum(0).astype(float)  # (units, values)
    counts = counts[counts.sum(1) >= 2]
    if not len(counts):
        return math.nan
    raters = counts.sum(1, keepdims=True)
    pairs = counts.T @ (counts / (raters - 1)) - np.diag(
        (counts / (raters - 1)).sum(0)
    )  # coincidences (values, values)
    totals = pairs.sum(1)
    distance = _distances(totals, level)
    expected = float((np.outer(totals, totals) * distance).sum()) / (totals.sum() - 1)
    return 1.0 - float((pairs * distance).sum()) / expected if expected else math.nan


def _distances(totals: np.ndarray, level: str) -> np.ndarray:
    """Squared differences of values, (values, values)."""
    if level == "nominal":
        return 1.0 - np.eye(len(totals))
    if level != "ordinal":
        raise ValueError(f"level is {level!r}; known are nominal and ordinal")
    ranks = np.cumsum(totals) - totals / 2  # sum over the values between two, half of both ends left out
    return (ranks[:, None] - ranks[None, :]) ** 2


def power_of(count: int, effect: float, alpha: float) -> float:
    """The chance that a two-sided paired t-test of `count` pairs finds an effect (Cohen's d of the differences)."""
    critical = float(stats.t.ppf(1 - alpha / 2, count - 1))
    shift = effect * math.sqrt(count)
    chance = stats.nct.sf(critical, count - 1, shift) + stats.nct.cdf(-critical, count - 1, shift)
    return float(chance) if math.isfinite(float(chance)) else float(shift > critical)


def participants_needed(effect: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """The least number of participants at which `power_of` reaches `power`."""
    low, high = 1, 4
    while power_of(high, effect, alpha) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_of(middle, effect, alpha) < power else (low, middle)
    return high
