"""What the pack adds to the host's start: paired starts with and without it."""

from __future__ import annotations

import re
import statistics
import time

import psutil

from devtools.hosts import ensure_host
from devtools.server import PACK_FOLDER, Server, Workspace

PAIRS = 7
IMPORT_TIME = re.compile(rf"([\d.]+) seconds: .*{PACK_FOLDER}")


def start_once(host, workspace: Workspace) -> tuple[float, float]:
    """Wall and processor seconds until the server answers."""
    started = time.monotonic()
    with Server(host, workspace) as server:
        wall = time.monotonic() - started
        times = psutil.Process(server.pid).cpu_times()
        return wall, times.user + times.system


def measure(version: str) -> dict:
    host = ensure_host(version, development=True)
    with Workspace() as ours, Workspace(pack=False) as bare:
        start_once(host, bare), start_once(host, ours)  # byte code and file caches
        pairs = [(start_once(host, bare), start_once(host, ours)) for _ in range(PAIRS)]
        imports = [float(found) for found in IMPORT_TIME.findall((ours.root / "server.log").read_text())]
    rows = []
    for index, label in enumerate(("wall seconds", "processor seconds")):
        bare_times, our_times = ([run[index] for run in side] for side in zip(*pairs, strict=True))
        added = [b - a for a, b in zip(bare_times, our_times, strict=True)]
        medians = [statistics.median(series) for series in (bare_times, our_times, added)]
        rows.append([label, *(f"{m:.2f}" for m in medians), f"{min(added):.2f} to {max(added):.2f}"])
    rows.append(["the host's own count of the import", "-", f"{statistics.median(imports):.2f}", "-", "-"])
    return {
        "title": f"import: start of ComfyUI {version}, {PAIRS} pairs",
        "columns": ["", "without (median)", "with (median)", "added (median)", "added (range)"],
        "rows": rows,
        "goal": "the pack adds less than 0.15 s",
    }
