"""Starts `adapt_child.py` in a host's Python and reads what it prints."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from devtools.hosts import Host
from devtools.report import DevError
from devtools.server import Workspace

CHILD = Path(__file__).with_name("adapt_child.py")


def child(host: Host, command: str, **arguments) -> dict:
    """The result of one command of the child; raises `DevError` with the end of its output."""
    with Workspace() as workspace:
        text = json.dumps({"folder": str(workspace.root), **arguments})
        # One thread, so that the processor's time is the time of a quiet machine.
        options = {"cwd": host.comfyui, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
        done = subprocess.run(
            [host.python, str(CHILD), command, text], capture_output=True, text=True, errors="replace", **options
        )
    if done.returncode:
        raise DevError(f"benchmark {command} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
