"""Starts `fork_host.py` in a host's Python; runs prompts in copies of it, and kills them at a moment."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

from ...devtools import device
from ...devtools.hosts import Host
from ...devtools.report import DevError, say
from ...devtools.server import DIES_WITH_PARENT, START_TIMEOUT, Workspace
from . import prompts
from .serving import SYSTEM_TEMP

INSIDE = Path(__file__).with_name("fork_host.py")
LONGEST = 300.0  # seconds for one prompt


class ForkedHost:
    """A started ComfyUI whose copies run a prompt each. A context manager; POSIX alone."""

    def __init__(self, host: Host, workspace: Workspace):
        self.host, self.workspace = host, workspace
        self._answers: queue.Queue[str] = queue.Queue()
        self._log = workspace.root / "fork_host.log"

    def __enter__(self) -> ForkedHost:
        started, root = time.monotonic(), self.workspace.root
        database = "sqlite:///" + (root / "user" / "comfyui.db").as_posix()
        command = [self.host.python, str(INSIDE), *device.arguments(Path(self.host.comfyui)), "--disable-auto-launch"]
        command += ["--base-directory", str(root), "--database-url", database]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TMPDIR": str(root / SYSTEM_TEMP)}
        environment |= {"AAI_WARM": json.dumps(prompts.ordinary(0)), "PYTHONPATH": device.python_path()}
        self._process = subprocess.Popen(
            command,
            cwd=self.host.comfyui,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(self._log, "wb"),
            text=True,
            **DIES_WITH_PARENT,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._answer(START_TIMEOUT)
        say(
            f"a ComfyUI {self.host.version} that makes copies of itself is ready after {time.monotonic() - started:.1f} s"
        )
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line.strip())
        self._answers.put("")

    def _answer(self, seconds: float) -> str:
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            answer = ""
        if not answer:
            self._process.kill()
            tail = self._log.read_text(errors="replace")[-3000:]
            raise DevError(f"The ComfyUI that makes copies of itself has ended or hangs.\n{tail}")
        return answer

    def run(self, graph: dict, kill_after: float | None = None) -> dict | None:
        """What became of a prompt in a copy, with its "seconds"; None if the copy was killed after so many."""
        result = self.workspace.root / "result.json"
        result.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps({"graph": graph, "result": str(result)}) + "\n")
        self._process.stdin.flush()
        pid, began = int(self._answer(30.0)), time.monotonic()
        if kill_after is not None:
            with contextlib.suppress(queue.Empty):
                return self._ended(self._answers.get(timeout=kill_after), result, began)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._ended(self._answer(LONGEST), result, began)

    def _ended(self, code: str, result: Path, began: float) -> dict | None:
        if code == str(-signal.SIGKILL):
            return None
        if code != "0":
            raise DevError(f"A copy ended with {code}.\n{self._log.read_text(errors='replace')[-3000:]}")
        return {**json.loads(result.read_text(encoding="utf-8")), "seconds": time.monotonic() - began}
