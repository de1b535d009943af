"""Paired timing: ours and a peer's on the same work, taking turns in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from devtools.device import current


def paired(ours: Callable[[], object], peer: Callable[[], object], rounds: int = 9) -> tuple[float, float, float]:
    """Median seconds of ours, of the peer's, and the median of peer / ours over the rounds. One warm-up each."""
    ours(), peer(), _wait()
    times = []
    for index in range(rounds):
        # Whoever goes first alternates, so that a drift of the machine hits both alike.
        order = (ours, peer) if index % 2 else (peer, ours)
        seconds = {}
        for work in order:
            started = time.perf_counter()
            work()
            _wait()
            seconds[work] = time.perf_counter() - started
        times.append((seconds[ours], seconds[peer]))
    ratio = statistics.median(theirs / mine for mine, theirs in times)
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times), ratio


def _wait() -> None:
    """Let a GPU end what it was given."""
    if current() != "cpu":
        import torch

        torch.cuda.synchronize()


def row(label: str, timed: tuple[float, float, float], goal: str) -> list[str]:
    """A line of a table: what, ours, peer, how many times as fast, goal."""
    mine, theirs, ratio = timed
    return [label, f"{1000 * mine:.2f}", f"{1000 * theirs:.2f}", f"{ratio:.2f}", goal]


COLUMNS = ["", "ours (ms)", "peer (ms)", "times as fast", "goal"]
