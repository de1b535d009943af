"""The commands of dev.py and its server, for real: quick when nothing is to do, stopped on every way out."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from aai_pack.devtools.report import DevError
from aai_pack.devtools.server import Server, Workspace

ROOT = Path(__file__).resolve().parents[2]


def dev(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(ROOT / "dev.py"), *arguments], capture_output=True, text=True, **options)


def test_a_built_host_costs_less_than_a_second(host):
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy with something else
        started = time.monotonic()
        done = dev("host", "--host", host.version, "--print")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.0
    assert json.loads(done.stdout) == {"version": host.version, "python": host.python, "comfyui": host.comfyui}


@pytest.mark.parametrize(
    "arguments", [("host", "--nonsense"), ("demo", "--sounds", "/nowhere"), ("demo", "--host", "9")]
)
def test_wrong_arguments_are_one_clear_line(arguments):
    done = dev(*arguments)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr and done.stderr.strip()


def test_a_folder_without_recordings(tmp_path):
    for models, said in (("stand-ins", "holds no recording"), ("pocket", "make their own sounds")):
        done = dev("demo", "--sounds", str(tmp_path), "--models", models, "--out", str(tmp_path / "out"))
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_the_server_ends_with_its_starter(host, way):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-u", str(ROOT / "dev.py"), "serve", "--host", host.version, "--port", str(port)]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = starter.stdout.readline()
    folder = Path(re.search(r"folder ([^;]+);", line)[1])
    (server,) = psutil.Process(starter.pid).children()
    os.kill(starter.pid, getattr(signal, way))
    starter.wait(30)
    psutil.wait_procs([server], timeout=20)
    assert not server.is_running()
    if way != "SIGKILL":
        assert not folder.exists(), "the temporary folder stays behind"


def test_a_port_that_is_taken(host):
    with socket.socket() as taken, Workspace() as workspace:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DevError, match=f"Port {port} is taken. Choose another"):
            Server(host, workspace, port=port)


def test_a_server_that_does_not_start_shows_its_log(host):
    with Workspace() as workspace, pytest.raises(DevError, match=r"(?s)ended while starting.*unrecognized arguments"):
        Server(host, workspace, arguments=("--nonsense",)).start()


def test_an_exception_stops_the_server(host):
    with Workspace() as workspace:
        with pytest.raises(RuntimeError), Server(host, workspace) as server:
            raise RuntimeError
        assert not server.alive and server.tail()


def test_the_pack_lies_in_a_folder_with_a_dash_and_loads_without_a_warning(server, workspace):
    (link,) = (workspace.root / "custom_nodes").glob("comfyui-align-*")
    assert link.resolve() == ROOT
    log = server.log.read_text()
    assert f"seconds: {link}" in log and "IMPORT FAILED" not in log
