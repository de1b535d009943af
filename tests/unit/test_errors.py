"""Errors as people read them, and as they come out of another process by pickle."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import traceback

import pytest
from aai_pack import aai_models
from aai_pack.aai_models.errors import ExplainedError

PARTS = ("There is one", "Two are needed", "Connect another")


def kinds() -> list[type[ExplainedError]]:
    """Every error class of the method, also those of modules that nothing has imported yet."""
    for module in pkgutil.walk_packages(aai_models.__path__, f"{aai_models.__name__}."):
        if module.name.rpartition(".")[2] in ("errors", "step"):
            importlib.import_module(module.name)
    found, left = [], [ExplainedError]
    while left:
        found.append(left.pop())
        left += found[-1].__subclasses__()
    return found


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_person_reads_the_name_and_the_sentences(kind):
    error = kind(*PARTS)
    told = traceback.format_exception_only(error)[0]
    assert told == f"{kind.__name__}: There is one. Two are needed. Connect another.\n"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and (again.found, again.expected, again.do) == PARTS


def test_all_kinds_are_looked_at():
    assert {"TokenError", "AudioError", "NotFiniteError", "DeviceError"} <= {kind.__name__ for kind in kinds()}
