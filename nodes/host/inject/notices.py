"""What a run has to say, each thing once."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Notices:
    """Warnings of one run."""

    def __init__(self):
        self._said: set[str] = set()

    def warn(self, text: str, reason: str | None = None) -> None:
        """Say it once a run; of what has one reason in many layers, only the first."""
        if (reason or text) not in self._said:
            self._said.add(reason or text)
            log.warning("Prompt-to-prompt: %s.", text)


def where(kind: str, extra: dict) -> str:
    return f"{kind}-attention of {extra.get('block')}"
