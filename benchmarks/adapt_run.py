"""Starts `adapt_child.py` in a host's Python and reads what it prints."""

from __future__ import annotations

import json
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
        done = subprocess.run(
            [host.python, str(CHILD), command, text], cwd=host.comfyui, capture_output=True, text=True, errors="replace"
        )
    if done.returncode:
        raise DevError(f"benchmark {command} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
