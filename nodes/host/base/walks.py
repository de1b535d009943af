"""Walks through a folder in the host: no link out of what a prompt may read, a limit, progress, and an end by Cancel."""

from __future__ import annotations

import time
from pathlib import Path

import comfy.model_management as mm

from ....aai_models.walk import Walk
from .messages import tell_progress
from .places import is_confined, may_read

MOST_FILES = 500_000  # that are looked at in one folder and below
TELL_EVERY = 0.5  # seconds


def open_walk(folder: Path) -> Walk:
    """A walk through a folder that follows no link out of what may be read, shows its progress and can be cancelled."""
    told = time.monotonic()

    def on_progress(seen: int) -> None:
        nonlocal told
        mm.throw_exception_if_processing_interrupted()
        if time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            tell_progress(f"{seen:,} files looked at")

    return Walk(folder, may_read if is_confined() else None, MOST_FILES, on_progress)


class WalkCancelledError(Exception):
    """A person cancelled while the host asked whether a node's files changed."""


def quiet_walk(folder: Path) -> Walk:
    """The same for the question whether files changed: a cancel ends it, and is left for the run that comes after."""

    def on_progress(seen: int) -> None:
        if mm.processing_interrupted():
            raise WalkCancelledError

    return Walk(folder, may_read if is_confined() else None, MOST_FILES, on_progress)
