"""Processes that draw and sound what a training learns from, while the device is busy with the step before."""

from __future__ import annotations

import runpy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ...aai_models.align.data.worker import start_pool
from ...aai_models.errors import ExplainedError, TrainingError

T = TypeVar("T")
AHEAD = 3  # tasks in hand for each worker
START = (
    str(Path(__file__).resolve().parents[1] / "__main__.py"),
    None,
    "lab worker",
)  # `lab.__main__` says what it does


class Workers:
    """Does what a training asks for in `count` processes; with 0 in this one, when it is needed.

    What comes back is the same for any `count`: each task draws its chance from its own arguments. The processes are deaf
    to Ctrl-C and end with the training.
    """

    def __init__(self, count: int = 0):
        self.count = count
        self._pool = start_pool(count, runpy.run_path, START) if count else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, work: Callable[..., T], *arguments) -> Callable[[], T]:
        """Begin `work(*arguments)` -> a function that waits for the result; it may be called more than once.

        That function raises `TrainingError` for whatever goes wrong in the process.
        """
        if self._pool is None:
            return cache(partial(work, *arguments))
        try:
            return partial(_result, self._pool.submit(work, *arguments), work)
        except BrokenProcessPool:
            raise _killed() from None

    def ahead(self, work: Callable[..., T], tasks: Iterable[tuple]) -> Iterator[T]:
        """`work(*task)` for each task in their order, with some in hand."""
        tasks = iter(tasks)
        waiting = deque(self.submit(work, *task) for task in islice(tasks, AHEAD * self.count))
        for task in tasks:
            waiting.append(self.submit(work, *task))
            yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()


def _result(future: Future[T], work: Callable[..., T]) -> T:
    try:
        return future.result()
    except BrokenProcessPool:
        raise _killed() from None
    except ExplainedError:
        raise
    except Exception as error:
        raise TrainingError(
            f"`{work.__name__}` failed in a worker process ({type(error).__name__}: {error})",
            "It draws what the training learns from",
            "Call again with --workers 0 to see where; training goes on from the last checkpoint",
        ) from error


def _killed() -> TrainingError:
    return TrainingError(
        "A worker process was killed",
        "It draws as long as the training runs; systems short of memory kill such processes",
        "Call again with fewer --workers; training goes on from the last checkpoint",
    )
