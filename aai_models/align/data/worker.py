"""Processes beside a training, for what is to be ready when a step begins."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process, resource_tracker

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
    """`count` processes that call `prepare(*arguments)` first, started at once and deaf to Ctrl-C from their first moment.

    They are new ones: a forked process inherits the locks of threads that it does not have. Raises `KeyboardInterrupt` if
    Ctrl-C was pressed meanwhile.
    """
    pool = ProcessPoolExecutor(count, get_context("spawn"), prepare, arguments)
    try:
        with _deaf_children():
            for _ in range(count):
                pool.submit(os.getpid)  # each begins a process, as none is idle yet
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return pool


@contextlib.contextmanager
def _deaf_children() -> Generator[None]:
    """Processes that are begun inside inherit that Ctrl-C is held back from them: `prepare` runs only when they have
    imported what it needs. Here it is only put off to the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    mask = _held_back()
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _held_back() -> set[int | signal.Signals] | None:
    """Hold Ctrl-C back from this thread and from what it begins; the mask before, None on Windows, which knows none."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    resource_tracker.ensure_running()  # it would let the signal through again when it is begun with the first process
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
