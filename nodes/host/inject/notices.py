"""Warnings of a run, each given once."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Notices:
    """Warnings of one run."""

    def __init__(self):
        self._said: set[str] = set()

    def warn(self, text: str, reason: str | None = None) -> None:
        """Log it once for each run; of several layers with the same `reason`, only the first."""
        if (reason or text) not in self._said:
            self._said.add(reason or text)
            log.warning("Prompt-to-prompt: %s.", text)


def where(kind: str, extra: dict) -> str:
    return f"{kind}-attention of {extra.get('block')}"
