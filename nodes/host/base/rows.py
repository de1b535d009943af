"""Which rows of a batch belong to which conditioning; positions tell nothing, and the host copies its ids."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-6  # of sigmas that went through float32
OPTIONS_KEY = "aai_rows"  # in the transformer options of one run: {uuid: conditioning}


def identify_rows(guider, options: dict) -> dict[uuid.UUID, dict]:
    """Give every conditioning of a run an id of its own -> {id: the conditioning that the user connected}.

    To be called where the sampler starts (the host's SAMPLER_SAMPLE), where the conditionings are final; a second call in
    the same run returns the same. The host puts copies with the same id into other lists to match areas: a copy belongs
    to the conditioning whose encoded prompt it carries, in that conditioning's own list.
    """
    if OPTIONS_KEY in options:
        return options[OPTIONS_KEY]
    rows: dict[uuid.UUID, dict] = {}
    for key, entries in guider.conds.items():
        connected = {entry.get("uuid") for entry in guider.original_conds.get(key, [])}
        owners = {
            id(entry["model_conds"].get("c_crossattn")): entry for entry in entries if entry.get("uuid") in connected
        }
        renamed = []
        for entry in entries:
            owner = owners.get(id(entry["model_conds"].get("c_crossattn")))
            entry = {**entry, "uuid": uuid.uuid4()}
            if owner is not None:
                rows[entry["uuid"]] = owner
            renamed.append(entry)
        guider.conds[key] = renamed
    options[OPTIONS_KEY] = rows
    return rows


def rows_in_call(extra: dict, batch: int) -> Iterator[tuple[slice, uuid.UUID]]:
    """The rows of each conditioning in one call of an attention."""
    ids = extra.get("uuids") or []
    each = batch // len(ids) if ids else 0
    for index, identity in enumerate(ids):
        yield slice(index * each, (index + 1) * each), identity


def is_rearranged(extra: dict, batch: int, tiles: bool = False) -> bool:
    """Whether another node gave an attention other rows than the model was called with, so that ours cannot be told.

    With `tiles`, a picture cut into so many rows each (HyperTile) is no hindrance: they lie one after the other.
    """
    given = (extra.get("original_shape") or [batch])[0]
    return batch % given != 0 if tiles else batch != given


class CallMemo:
    """What was worked out for one call of the model, for all its layers.

    Several calls may be under way at once: the host splits a batch over devices, each with a thread of its own.
    """

    SIZE = 16

    def __init__(self):
        self._kept: tuple[tuple, ...] = ()  # replaced as a whole: another thread may be reading it

    def get(self, extra: dict, key, make: Callable[[], Any]) -> Any:
        """`make()`, once for each key and call; the host makes a new list of ids for each call."""
        ids = extra.get("uuids")
        for known, known_key, value in self._kept:
            if known is ids and known_key == key and ids is not None:
                return value
        value = make()
        self._kept = ((ids, key, value), *self._kept[: self.SIZE - 1])
        return value


class RowFinder:
    """The rows of the conditionings of a run, found once for each call of the model."""

    def __init__(self):
        self.entries: dict[uuid.UUID, dict] = {}
        self._memo = CallMemo()

    def rows(self, extra: dict, batch: int) -> list[tuple[slice, dict]]:
        """(rows, conditioning) of those that are known."""
        return self._memo.get(extra, batch, lambda: self._find(extra, batch))

    def _find(self, extra: dict, batch: int) -> list[tuple[slice, dict]]:
        return [(rows, self.entries[i]) for rows, i in rows_in_call(extra, batch) if i in self.entries]


def prompt_length(entry: dict) -> int:
    """Tokens of a processed conditioning, before the host repeats them to batch it with longer ones."""
    return entry["model_conds"]["c_crossattn"].cond.shape[1]


def fill_up(values: Tensor, length: int, value: float, dim: int = -1) -> Tensor:
    """Cut or extend a dimension to `length` with `value`; prompts may have been joined after they were encoded."""
    have = values.shape[dim]
    if have >= length:
        return values.narrow(dim, 0, length)
    shape = list(values.shape)
    shape[dim] = length - have
    return torch.cat([values, values.new_full(shape, value)], dim=dim)


class Windows:
    """Windows of percents. The host turns percents to sigmas, and may have to wait for a device: it is asked once for each."""

    def __init__(self, sampling):
        self._sampling = sampling
        self._sigmas: dict[float, float] = {}

    def sigma(self, percent: float) -> float:
        if percent not in self._sigmas:
            self._sigmas[percent] = float(self._sampling.percent_to_sigma(percent))
        return self._sigmas[percent]

    def is_open(self, start: float, end: float, sigma: float) -> bool:
        """Whether `sigma` lies in a window, its start included."""
        return start < end and self.sigma(end) * (1 + TOLERANCE) < sigma <= self.sigma(start) * (1 + TOLERANCE)
