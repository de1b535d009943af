"""Which model of full size trains and is edited in how much memory. Counted, not computed (`memory_child.py`)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from devtools.hosts import Host, ensure_host

from .adapt_run import child, sizes_alone

GIB = 2**30
# GiB that are free on the device.
TRAININGS = {
    ("SD15", "float16"): (1.5, 2, 2.5, 3, 4),
    ("SDXL", "float16"): (6, 6.5, 7, 8, 12, 16),
    ("SDXL", "float8_e4m3fn"): (4, 5, 6, 8, 12),
}
PICTURES = {("SD15", "float16"): (2, 4), ("SDXL", "float16"): (6, 8)}
NAMES = {"SD15": "SD1.5, 512 px", "SDXL": "SDXL, 1024 px"}
WEIGHTS = {"float16": "fp16", "float8_e4m3fn": "fp8"}


def measure(version: str) -> dict:
    """The figures: {"title", "columns", "rows", "goal"}."""
    host = ensure_host(version)
    environment = sizes_alone(host)
    asked = [("step", None, *model, free) for model, sizes in TRAININGS.items() for free in sizes]
    asked += [("edit", edits, *model, free) for model, sizes in PICTURES.items() for free in sizes for edits in (0, 1)]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        rows = list(pool.map(lambda what: _row(host, environment, *what), asked))
    return {
        "title": "Memory: models of full size on an emulated device (PyTorch's tensors alone)",
        "columns": ["what", "model", "weights", "free GiB", "how", "peak GiB"],
        "rows": rows,
        "goal": "training: SD1.5 at 512 px in 4, SDXL at 1024 px in 8; an edit wherever the picture fits",
    }


def _row(
    host: Host, environment: dict[str, str], command: str, edits: int | None, family: str, weights: str, free: float
) -> list[str]:
    arguments = {"family": family, "weights": weights, "free": free, "edits": edits}
    found = child(host, command, script="memory_child", environment=environment, **arguments)
    kept = ", ".join(f"{count} in {place}" for place, count in found.get("places", {}).items())
    what = "training" if command == "step" else "source and an edit" if edits else "picture"
    how = found.get("way") or ("out of memory" if "said" in found else f"source kept: {kept}" if kept else "")
    peak = f"{found['peak'] / GIB:.2f}" if "peak" in found else "-"
    return [what, NAMES[family], WEIGHTS[weights], f"{free:g}", how, peak]
