"""Starts a real ComfyUI server on a free loopback port with folders of its own, and always stops it. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import device, frontend
from .hosts import ROOT, Host
from .report import DevError, say

# As users have it: a folder name with a dash, which is no valid Python identifier.
PACK_FOLDER = "comfyui-align-adapt-inject"
START_TIMEOUT = 400.0  # seconds; the first start of a host compiles its byte code
STOP_TIMEOUT = 15.0  # seconds before a server that does not end is killed


def link_folder(target: Path, link: Path) -> None:
    """Make `link` show `target`; where links are not allowed (Windows without developer mode) a junction does it."""
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if sys.platform != "win32":
            raise
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(target)], check=True, capture_output=True)


class Workspace:
    """ComfyUI's base folder for one run: models, custom_nodes, input, output, temp, user. Removed at the end unless named."""

    def __init__(self, root: Path | None = None, *, pack: bool = True):
        self._temporary = root is None
        self.root = Path(tempfile.mkdtemp(prefix="aai-host-")) if root is None else root
        for name in ("custom_nodes", "input", "output", "temp", "user"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("checkpoints", "embeddings", "cavt_mae", "vae", "loras"):
            (self.root / "models" / name).mkdir(parents=True, exist_ok=True)
        link = self.root / "custom_nodes" / PACK_FOLDER
        if pack and not link.exists():
            link_folder(ROOT, link)

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def models(self) -> Path:
        return self.root / "models"

    def close(self) -> None:
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DevError(f"Port {port} is taken. Choose another with --port, or stop what listens there.") from error


def _die_with_parent() -> None:
    """Linux: have the kernel end this process when the one that started it is killed outright."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


DIES_WITH_PARENT = {"preexec_fn": _die_with_parent} if sys.platform == "linux" else {}  # options of Popen


class Server:
    """A running ComfyUI. Use as a context manager; the server is stopped on every way out."""

    def __init__(
        self,
        host: Host,
        workspace: Workspace,
        *,
        port: int | None = None,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        echo: bool = False,
    ):
        self.host, self.workspace, self.echo = host, workspace, echo
        self.port = port or free_port()
        if port:
            _require_free(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = workspace.root / "server.log"
        self._environment = environment or {}
        self._arguments = arguments
        self._process: subprocess.Popen | None = None

    def _command(self) -> list[str]:
        root = self.workspace.root
        database = "sqlite:///" + (root / "user" / "comfyui.db").as_posix()
        return [
            *(self.host.python, "-u", "main.py", *device.arguments(Path(self.host.comfyui)), "--disable-auto-launch"),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(root)),
            *("--database-url", database, *frontend.arguments(), *self._arguments),
        ]

    def start(self) -> Server:
        started = time.monotonic()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **self._environment}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.host.comfyui,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **DIES_WITH_PARENT,
            )
        if self.echo:
            threading.Thread(target=self._echo_log, daemon=True).start()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        say(f"ComfyUI {self.host.version} answers at {self.url} after {time.monotonic() - started:.1f} s")
        return self

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise DevError(f"ComfyUI ended while starting (exit code {self._process.returncode}).\n{self.tail()}")
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{self.url}/system_stats", timeout=2),
            ):
                return
            time.sleep(0.1)
        raise DevError(f"ComfyUI did not answer within {START_TIMEOUT:.0f} s.\n{self.tail()}")

    def _echo_log(self) -> None:
        with open(self.log, errors="replace") as log:
            while self.alive:
                line = log.readline()
                if line:
                    sys.stderr.write(line)
                else:
                    time.sleep(0.2)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tail(self, lines: int = 30) -> str:
        """The end of the server's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def wait(self) -> None:
        """Block until the server ends by itself."""
        self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()
