"""What a long run is measured by: memory of a process, a slope with its noise, files that were left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

WARM_UP = 0.2  # share of a run that counts as its start
BLOCKS = 20  # parts of a run whose means are fitted: neighbours in time are alike, so single values say too much


@dataclass(frozen=True)
class Slope:
    """A straight line through a series after its warm-up."""

    per_thousand: float  # units of the series for each thousand of its steps
    noise: float  # twice its standard error, in the same unit
    start: float  # of the line, where it begins
    count: int  # values it was fitted to

    @property
    def is_flat(self) -> bool:
        """Whether no slope can be told from the noise."""
        return self.per_thousand <= self.noise

    @property
    def grown(self) -> float:
        """What the line rises over the series, as a share of its beginning."""
        return self.per_thousand * self.count / 1000 / max(self.start, 1e-9)

    def __str__(self) -> str:
        return f"{self.per_thousand:+.1f} ± {self.noise:.1f}"


def slope(values: list[float], warm_up: float = WARM_UP) -> Slope:
    """Least squares through the means of blocks of the series without its warm-up; at least 8 values."""
    kept = np.asarray(values[int(len(values) * warm_up) :], float)
    if len(kept) < 8:
        return Slope(0.0, float("inf"), float(kept.mean()) if len(kept) else 0.0, len(kept))
    blocks = np.array_split(np.arange(len(kept)), min(BLOCKS, len(kept) // 2))
    x = np.array([block.mean() for block in blocks])
    y = np.array([np.median(kept[block]) for block in blocks])
    rise, at_zero = np.polyfit(x, y, 1)
    residuals = y - (rise * x + at_zero)
    error = np.sqrt((residuals**2).sum() / max(len(x) - 2, 1) / ((x - x.mean()) ** 2).sum())
    return Slope(1000 * float(rise), 2000 * float(error), float(at_zero), len(kept))


def memory(pid: int) -> float:
    """Resident memory of a process in MB (2^20 bytes)."""
    return psutil.Process(pid).memory_info().rss / 2**20


def work(pid: int) -> float:
    """Seconds that a process has kept a processor busy: what a busy machine does to the clock does little to them."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def files(folder: Path) -> set[str]:
    """Every file below a folder, by its path from there; links to folders are not entered."""
    return {os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names}


def half_written(names: set[str]) -> list[str]:
    """Those that only an unfinished write leaves."""
    return sorted(name for name in names if name.endswith((".partial", ".tmp")))
