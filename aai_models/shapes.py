"""Which tensors a model of a configuration has: its names and shapes, known without any memory for weights."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor of the module that `build` makes; `build` runs on PyTorch's meta device.

    The table belongs to the configuration, not to a module in use: a host may make layers that have no weights yet.
    """
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}


def first_difference(expected: dict[str, tuple[int, ...]], found: dict[str, Tensor]) -> str | None:
    """The first name, in alphabetical order, that only one of both has or whose shapes differ; None where all fit."""
    wrong = [
        name
        for name in expected.keys() | found.keys()
        if name not in expected or name not in found or tuple(found[name].shape) != expected[name]
    ]
    return min(wrong, default=None)


def lacking(
    missing: Collection[str], unknown: Collection[str], what: str = "tensors", other: str = "unknown"
) -> str | None:
    """What a file lacks of the tensors that it must have and no others, with the first name of each kind (`other` calls the
    second); None where both are empty. As in "NAME lacks 2 tensors and has 1 unknown ones: the first missing is ..."."""
    if not missing and not unknown:
        return None
    first = [
        f"the first {kind} is {next(iter(names))}" for kind, names in (("missing", missing), (other, unknown)) if names
    ]
    return f"lacks {len(missing)} {what} and has {len(unknown)} unknown ones: {', '.join(first)}"
