"""Errors about sounds."""

from __future__ import annotations

from ..errors import ExplainedError


class AudioError(ExplainedError):
    """A sound or a sound file that cannot be used as it is."""
