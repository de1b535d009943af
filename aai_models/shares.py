"""Labels with shares: what was heard in one sound."""

from __future__ import annotations

from torch import Tensor

# Labels with shares that sum to 1, the largest first.
Shares = tuple[tuple[str, float], ...]


def shares_of(names: list[str], values: Tensor) -> Shares:
    """Labels and their weights (N,) as shares, the largest first; equal labels count together."""
    sums: dict[str, float] = {}
    total = float(values.double().sum())
    for name, value in zip(names, values.double().tolist(), strict=True):
        sums[name] = sums.get(name, 0.0) + (value / total if total > 0 else 1 / len(names))
    return tuple(sorted(sums.items(), key=lambda pair: -pair[1]))
