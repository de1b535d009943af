"""Processes beside a training, for what is to be ready when a step begins."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process

import torch


def begin() -> None:
    """One thread; deaf to Ctrl-C, after which the training still finishes its step; ends when the training is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def start_pool(count: int, prepare: Callable[..., object] = begin, arguments: tuple = ()) -> ProcessPoolExecutor:
    """`count` processes that call `prepare(*arguments)` first.

    They are new ones: a forked process inherits the locks of threads that it does not have. They are started at once and
    with Ctrl-C ignored, which a new process inherits: `prepare` runs only when it has imported what it needs.
    """
    pool = ProcessPoolExecutor(count, get_context("spawn"), prepare, arguments)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        for _ in range(count):
            pool.submit(os.getpid)  # each begins a process, as none is idle yet
    finally:
        if is_main:
            signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    return pool
