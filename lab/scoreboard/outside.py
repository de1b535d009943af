"""Starts `inside.py` in a host's Python, shows what it says, and reads its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from devtools.cache import cache_root
from devtools.hosts import ensure_host
from devtools.report import DevError
from devtools.server import DIES_WITH_PARENT, Workspace

INSIDE = Path(__file__).with_name("inside.py")


def runs_folder() -> Path:
    """Where what the benchmarks train for themselves is kept."""
    return Path(os.environ.get("AAI_POCKET_RUNS") or cache_root() / "pocket_runs")


def start(version: str, command: str, sheets: Path) -> list:
    """The result of one command, whose pictures go into the folder `sheets`; raises `DevError` with the end of its output."""
    host = ensure_host(version, development=True)
    recordings = os.environ.get("AAI_RECORDINGS")
    if recordings and not Path(recordings).is_dir():
        raise DevError(f"AAI_RECORDINGS names {recordings}, which is no folder. Name the folder of ESC-10's classes.")
    arguments = {
        "runs": str(runs_folder().resolve()),
        "sheets": str(sheets.resolve()),
        "recordings": recordings and str(Path(recordings).resolve()),
        "repeats": int(os.environ.get("AAI_REPEATS", 12)),
        "only": os.environ.get("AAI_ROWS", ""),
    }
    with Workspace(pack=False) as workspace:
        text = json.dumps({"folder": str(workspace.root), **arguments})
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        child = [host.python, str(INSIDE), command, text]
        with subprocess.Popen(child, cwd=host.comfyui, **options, **DIES_WITH_PARENT) as process:
            return _listen(process)


def _listen(process: subprocess.Popen) -> list:
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
    reader.start()
    last = ""
    try:
        for line in process.stdout:
            if line.strip():
                last = line
            if line.strip() and not line.startswith("["):
                print(line, end="", file=sys.stderr, flush=True)
        code = process.wait()
    except BaseException:
        process.terminate()
        raise
    reader.join(timeout=5)
    if code:
        raise DevError(f"it failed:\n{''.join(errors)[-2000:]}")
    return json.loads(last)
