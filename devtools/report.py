"""One way to speak to the person at the terminal: progress on stderr, failures as one line with a remedy."""

from __future__ import annotations

import contextlib
import sys
import time


class DevError(Exception):
    """A failure that the user can act on: `str(error)` is one clear line that ends with what to do; `code` is the exit
    code of the command that it ends."""

    def __init__(self, text: str, code: int = 1):
        super().__init__(text)
        self.code = code


def say(text: str) -> None:
    """Print one progress line on stderr, so that stdout stays free for results."""
    print(f"[dev] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str):
    """Announce a step, then say how long it took."""
    say(f"{text} ...")
    started = time.monotonic()
    yield
    say(f"{text}: done in {time.monotonic() - started:.1f} s")
