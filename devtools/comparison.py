"""The last part of the demo: the comparison of methods on the pocket world, each step in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from .hosts import ROOT
from .report import say, step
from .server import DIES_WITH_PARENT

PLAN = Path("aai_models") / "study" / "plans" / "pocket.json"
FOLDER = "comparison"


def compare(url: str, out: Path) -> dict:
    """Make the comparison with the server at `url` into `out / FOLDER`, and measure it -> its entry of the report."""
    folder, started = (out / FOLDER).resolve(), time.monotonic()
    steps = {
        "comparing the methods": ["aai_models.study", "make", str(PLAN), "--server", url, "--out", str(folder)],
        "measuring the comparison": ["lab.comparison", str(folder)],
    }
    for told, arguments in steps.items():
        with step(told):
            command = [sys.executable, "-m", *arguments]
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, errors="replace", **DIES_WITH_PARENT
            )
        if done.returncode:
            say(f"{told} failed: {done.stderr.strip()[-2000:]}")
            return {"status": "error", "error": done.stderr.strip()[-2000:]}
    return {"status": "success", "seconds": round(time.monotonic() - started, 1), "page": f"{FOLDER}/index.html"}
