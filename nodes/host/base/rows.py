"""Which rows of a batch belong to which conditioning; positions tell nothing, and the host copies its ids."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

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


def is_open(sampling, start: float, end: float, sigma: float) -> bool:
    """Whether `sigma` lies in a window of percents, its start included; the host's own functions turn percents to sigmas."""
    first, last = (float(sampling.percent_to_sigma(percent)) for percent in (start, end))
    return start < end and last * (1 + TOLERANCE) < sigma <= first * (1 + TOLERANCE)
