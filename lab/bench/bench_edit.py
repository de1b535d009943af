"""A source and its edits against plain runs of the same sampler: on a real server, or on a GPU at SD1.5's real size."""

from __future__ import annotations

from devtools import device
from devtools.hosts import ensure_host

from .adapt_run import child
from .serving import Served, alternating, loaded, sampler, save_latent, served

ROUNDS, STEPS, SIDE = 3, 8, 128
EDITS = (1, 2, 8)


def prompts(count: int, seed: int) -> list[str]:
    """A source and `count` edits of it."""
    return [f"a sea {seed} along the beach", *(f"a sea {seed} with boats {n} along the beach" for n in range(count))]


def edited(at: Served, count: int, seed: int, side: int = SIDE, steps: int = STEPS, memory: str = "auto") -> dict:
    """Source and edits in one sampler."""
    graph = loaded(at.stand_ins, prompts(count, seed), side, side)
    inputs = {"model": ["1", 0], "source": ["10", 0], "target": ["11", 0], "latent": ["2", 0]}
    inputs |= {"cross_end": 0.8, "self_end": 0.4, "controller": "AttentionRefine", "memory": memory}
    inputs |= {f"target_{n}": [f"1{n}", 0] for n in range(2, count + 1)}
    graph["4"] = {"class_type": "AAI_P2PAttentionInject", "inputs": inputs}
    return graph | {"5": sampler(["4", 0], ["4", 1], ["4", 2], seed, steps), "6": save_latent(["5", 0])}


def plain(at: Served, count: int, seed: int) -> dict:
    """The same prompts, each in a sampler of its own."""
    graph = loaded(at.stand_ins, prompts(count, seed), SIDE, SIDE)
    for number in range(count + 1):
        graph[f"5{number}"] = sampler(["1", 0], [f"1{number}", 0], ["2", 0], seed, STEPS)
        graph[f"6{number}"] = save_latent([f"5{number}", 0])
    return graph


def measure(version: str) -> dict:
    if device.current() != "cpu":
        return _at_full_size(version)
    rows = []
    with served(version) as at:
        for count in EDITS:
            ours, peer, ratio = alternating(
                lambda seed, n=count: at.seconds(edited(at, n, 100 * n + seed)),
                lambda seed, n=count: at.seconds(plain(at, n, 100 * n + 50 + seed)),
                ROUNDS,
            )
            rows.append(_row(count, ours, peer, ratio))
    return _table(version, f"{STEPS} steps, {SIDE} px, {ROUNDS} rounds", rows)


def _at_full_size(version: str) -> dict:
    found = child(ensure_host(version, development=True), "edits", "edit_child", counts=EDITS)
    rows = [_row(count, ours, peer, ours / peer) for count, ours, peer in found["rows"]]
    return _table(version, found["run"], rows)


def _row(count: int, ours: float, peer: float, ratio: float) -> list[str]:
    of_pairs = ratio * (count + 1) / (2 * count)
    return [f"{count}", f"{ours:.2f}", f"{peer:.2f}", f"{ratio:.2f}", f"{of_pairs:.2f}"]


def _table(version: str, run: str, rows: list) -> dict:
    return {
        "title": f"edit: a source and N edits on ComfyUI {version}, {run}",
        "columns": ["N", "ours (median s)", "N + 1 plain runs (s)", "of N + 1 runs", "of 2 N runs"],
        "rows": rows,
        "goal": "at most 1.10 of N + 1 runs",
    }
