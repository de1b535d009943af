"""Processes beside a training: Ctrl-C ends none of them, and none is lost while they begin."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from aai_pack.aai_models.align.data.worker import start_pool

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def masks(pid: int | str) -> dict[str, bool]:
    """Whether a process ignores Ctrl-C, and whether it is held back from it."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    bit = 1 << (signal.SIGINT - 1)
    return {name: bool(int(lines[name], 16) & bit) for name in ("SigIgn", "SigBlk")}


@LINUX
def test_workers_are_deaf_from_their_first_moment_and_this_process_is_not(monkeypatch):
    seen, submit = [], ProcessPoolExecutor.submit

    def begun(pool, *arguments):
        future = submit(pool, *arguments)
        seen.extend(masks(pid) for pid in list(pool._processes))  # before they have run a line of their own
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", begun)
    before = masks("self"), signal.getsignal(signal.SIGINT)
    with start_pool(2, os.getpid) as pool:
        assert len(pool._processes) == 2
    assert seen and all(mask["SigIgn"] or mask["SigBlk"] for mask in seen)
    assert (masks("self"), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("at", [1, 2])
def test_ctrl_c_while_they_begin_is_heard(monkeypatch, at):
    """It was ignored then: a command that was stopped in its first moment went on."""
    pools, submit = [], ProcessPoolExecutor.submit

    def pressed(pool, *arguments):
        pools.append(pool)
        future = submit(pool, *arguments)
        if len(pools) == at:
            os.kill(os.getpid(), signal.SIGINT) if sys.platform != "win32" else signal.raise_signal(signal.SIGINT)
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", pressed)
    processes = []
    with pytest.raises(KeyboardInterrupt):
        try:
            start_pool(2, os.getpid)
        finally:
            processes = list((pools[-1]._processes or {}).values())
    assert len(pools) == 2, "all have begun before it is heard"
    for process in processes:
        process.join(30)
        assert process.exitcode is not None


def test_a_pool_of_another_thread():
    """Signals belong to the main thread; what such a pool does with Ctrl-C, its `prepare` says."""
    found = []

    def run():
        with start_pool(1, os.getpid) as pool:
            found.append(pool.submit(abs, -3).result(60))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(90)
    assert found == [3]
