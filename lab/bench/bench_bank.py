"""Where the source's attention is kept, and what that costs.

Environment: AAI_SIDES, some of the sizes in px with commas between (256,512,768,1024; the last takes ten minutes).
"""

from __future__ import annotations

import os
import re

from .bench_edit import edited
from .serving import served

SIDES, STEPS = "256,512,768,1024", 1
KEPT = re.compile(r"keeps ([0-9.]+) MB of the source's attention a step")


def measure(version: str) -> dict:
    rows, sides = [], [int(side) for side in os.environ.get("AAI_SIDES", SIDES).split(",")]
    with served(version) as at:
        at.seconds(edited(at, 1, 0, 64, 1))  # loads the models
        for side in sides:
            for place in ("device", "ram", "recompute"):
                seconds = at.seconds(edited(at, 1, side, side, STEPS, place))
                kept = KEPT.findall(at.server.tail(400))
                size = "0" if place == "recompute" else kept[-1]
                rows.append([str(side), place, size, f"{seconds:.1f}"])
    return {
        "title": f"bank: a source and an edit on ComfyUI {version}, {STEPS} steps, four transformers of 320 channels",
        "columns": ["px", "kept", "MB a step", "seconds in all"],
        "rows": rows,
        "goal": "a table: keeping costs memory, computing again costs time",
    }
