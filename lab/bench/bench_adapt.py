"""A training step of Adapt against diffusers' textual inversion loop on the same weights, and what watching it costs."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from devtools.hosts import Host, ensure_host

from .adapt_child import ON_GPU, SIDE, STEPS
from .adapt_run import child, sizes_alone

ROUNDS = 2
# What watches or keeps, its name in the child, and after how many steps it comes by default (previews: as advised).
EVERY = (("held-out loss", "look", 20), ("a checkpoint", "checkpoint", 25), ("a preview", "preview", 100))
MEGABYTE = 2**20
MODELS = (
    f"SD1.5's UNet and CLIP-L, {SIDE} px, fp16, on a GPU"
    if ON_GPU
    else f"SD1.5-shaped UNet of 128 channels, CLIP-L, {SIDE} px, fp32, one thread, processor time"
)


def measure(version: str) -> dict:
    host = ensure_host(version, development=True)
    sides: dict[str, list[dict]] = {"ours": [], "peer": []}
    for number in range(ROUNDS):
        for side in ("ours", "peer") if number % 2 else ("peer", "ours"):
            sides[side].append(child(host, side))
    assert all(found["same"] < (2e-2 if ON_GPU else 1e-3) for found in sides["peer"]), (
        "the two sides compute different things"
    )
    rows = []
    for label, name, unit, goal in (
        ("time per step (s)", "step", 1.0, 0.9),
        ("peak memory (MB)", "peak", MEGABYTE, 0.8),
    ):
        ours, peer = ([found[name] / unit for found in sides[side]] for side in ("ours", "peer"))
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, peer, strict=True))
        rows.append(
            [label, _short(statistics.median(ours)), _short(statistics.median(peer)), f"{ratio:.2f}", f"{goal} of it"]
        )
    costs = child(host, "overhead")
    for label, name, every in EVERY:
        share = 1 + costs[name] / (every * costs["step"])
        rows.append(
            [
                f"with {label} each {every} steps",
                _short(share * costs["step"]),
                _short(costs["step"]),
                f"{share:.3f}",
                "1.10",
            ]
        )
    found = child(host, "modules")
    share = found["step"] / found["modules"]
    rows.append(["a step at 64 px, peer: its modules alone", *map(_short, found.values()), f"{share:.2f}", "1.15"])
    rows += [_operations(host)] if sys.platform == "linux" and not ON_GPU else []
    return {
        "title": f"adapt: {MODELS}, {STEPS} steps, {ROUNDS} rounds; the last rows against ourselves without",
        "columns": ["", "ours", "peer", "ratio", "goal"],
        "rows": rows,
        "goal": "0.9 of diffusers' time and 0.8 of its memory; watching under 10 %",
    }


def _operations(host: Host) -> list[str]:
    """What a step of SD1.5 at its real size asks of a GPU, counted without one."""
    ours, peer = (child(host, side, "operations_child", sizes_alone(host))["operations"] for side in ("ours", "peer"))
    return ["operations a step asks of a GPU, fp16, 512 px", str(ours), str(peer), f"{ours / peer:.2f}", "0.9 of it"]


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def pictures(version: str, folder: Path) -> list[Path]:
    """The sheet of a training, drawn into `folder`."""
    path = folder / "training.png"
    child(ensure_host(version, development=True), "sheet", "word_child", thing="frog", path=str(path.resolve()))
    return [path]
