"""Starts a child of a benchmark in a host's Python and reads what it prints."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from devtools import device, emulation
from devtools.hosts import Host
from devtools.report import DevError
from devtools.server import Workspace

HERE = Path(__file__).parent


def child(
    host: Host, command: str, script: str = "adapt_child", environment: dict[str, str] | None = None, **arguments
) -> dict:
    """The result of one command of a child; raises `DevError` with the end of its output."""
    with Workspace() as workspace:
        text = json.dumps({"folder": str(workspace.root), **arguments})
        # One thread, so that the processor's time is the time of a quiet machine; a GPU is timed by the wall.
        threads = {"OMP_NUM_THREADS": "1"} if device.current() == "cpu" else {}
        options = {"cwd": host.comfyui, "env": {**os.environ, **threads, **(environment or {})}}
        done = subprocess.run(
            [host.python, str(HERE / f"{script}.py"), command, text],
            capture_output=True,
            text=True,
            errors="replace",
            **options,
        )
    if done.returncode:
        raise DevError(f"benchmark {command} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def sizes_alone(host: Host) -> dict[str, str]:
    """The environment of a child on the emulated device that has half precision and computes nothing large."""
    asked = {"AAI_DEVICE": "emulated", "AAI_EMULATED_HALF": "on", "AAI_EMULATED_SIZES": "on", "OMP_NUM_THREADS": "1"}
    return {**emulation.environment(host), **asked}
