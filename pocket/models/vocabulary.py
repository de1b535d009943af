"""CLIP's whole table of words from the rows that the pocket world uses."""

from __future__ import annotations

import torch
from torch import Tensor

from ..world.captions import END, FILLERS, START, vocabulary
from ..world.names import SYNONYMS
from .text import PAD_AXIS, START_AXIS, WIDTH

SIZE = 49408


def table(rows: Tensor, tokens: list[int], seed: int = 0) -> Tensor:
    """(49408, 768): rows (n, 768) at `tokens`; synonyms share their word's row; any other word is a seeded mixture.

    The others lie around the mean of words without meaning, so that the model hears nothing particular in them.
    """
    place = {number: row for row, number in enumerate(tokens)}
    ids = vocabulary()
    fillers = rows[[place[number] for word in FILLERS for number in ids[word]]]
    words = rows[2:]
    spread = (words - words.mean(0)).std()
    generator = torch.Generator().manual_seed(seed)
    whole = torch.empty(SIZE, WIDTH).normal_(0, float(0.5 * spread), generator=generator) + fillers.mean(0)
    whole[:, [PAD_AXIS, START_AXIS]] = 0
    whole[torch.tensor(tokens)] = rows
    for synonym, word in SYNONYMS.items():
        if synonym in ids and len(ids[synonym]) == 1 == len(ids[word]) and ids[synonym][0] not in (START, END):
            whole[ids[synonym][0]] = rows[place[ids[word][0]]]
    return whole
