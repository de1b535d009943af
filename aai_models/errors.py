"""Errors for people: what was found, what was expected, what to do."""

from __future__ import annotations

from importlib import import_module


class ExplainedError(ValueError):
    """Base of the pack's errors.

    Each part is a sentence without its final full stop; `do` may be empty. The message is theirs in this order.

    ComfyUI and Python print an error's module before its name, and a pack's module begins with the folder that it lies in.
    A person has no use for that: these errors call themselves built in, so that only "TokenError: ..." is read.
    """

    home = __module__  # where the class really is

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.home, cls.__module__ = cls.__module__, "builtins"

    def __init__(self, found: str, expected: str, do: str = ""):
        self.found, self.expected, self.do = found, expected, do
        super().__init__(" ".join(f"{part.rstrip('.')}." for part in (found, expected, do) if part))

    def __reduce__(self):
        """So that an error of a worker process arrives as what it is."""
        return _again, (self.home, type(self).__qualname__, self.found, self.expected, self.do)


def _again(home: str, name: str, *parts: str) -> ExplainedError:
    """An error of another process; Python itself would look for its class among the built-in ones."""
    return getattr(import_module(home), name)(*parts)


ExplainedError.__module__ = "builtins"


class CheckpointError(ExplainedError):
    """A model file that is not what it should be."""


class TokenError(ExplainedError):
    """An audio token, its file, or its place in a prompt."""


class TrainingError(ExplainedError):
    """Training that cannot start or continue."""


class DataError(ExplainedError):
    """A training set that cannot be made or read."""


class LibraryError(ExplainedError):
    """A picture library that cannot be built or searched."""


class EditError(ExplainedError):
    """An edit, a loudness scale or a heat map cannot be made as asked."""


class PocketError(ExplainedError):
    """An unknown scene or sound of the pocket world, or its weights are damaged or missing."""


class DeviceError(ExplainedError):
    """A device that is not available."""


class StudyError(ExplainedError):
    """A comparison of methods, its figures, or answers of people that cannot be used as they are."""
