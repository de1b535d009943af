"""CLIP's whole token embedding from the rows that the pocket world uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..world.captions import END, FILLERS, START, vocabulary
from ..world.names import SYNONYMS
from .text import WIDTH

SIZE = 49408
RARE = 24000  # from this number on, unknown words may mean as much as known ones


def table(rows: Tensor, tokens: list[int], seed: int = 0) -> Tensor:
    """(49408, 768): rows (n, 768) at `tokens`; synonyms share their word's row; any other word is a seeded mixture.

    The others lie between the words without meaning and pairs of known words, with some noise. Frequent ones say little in
    a prompt; rare ones reach as far as known words, so that the vocabulary as a whole spans what the model understands,
    as that of a real CLIP does. From it the bridge learns which row a feature belongs to.
    """
    place = {number: row for row, number in enumerate(tokens)}
    ids = vocabulary()
    whole = _unknown(rows, [place[number] for word in FILLERS for number in ids[word]], seed)
    whole[torch.tensor(tokens)] = rows
    for synonym, word in SYNONYMS.items():
        if synonym in ids and len(ids[synonym]) == 1 == len(ids[word]) and ids[synonym][0] not in (START, END):
            whole[ids[synonym][0]] = rows[place[ids[word][0]]]
    return whole


def _unknown(rows: Tensor, fillers: list[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    words = rows[2:]  # without start and end
    pairs = words[torch.randint(len(words), (2, SIZE), generator=generator)]
    share = torch.rand(SIZE, 1, generator=generator)
    noise = torch.randn(SIZE, WIDTH, generator=generator)
    # CLIP numbers its words by how often they occur.
    meaning = torch.full((SIZE, 1), 0.5)
    meaning[RARE:] += 0.5 * torch.rand(SIZE - RARE, 1, generator=generator)
    mixed = (1 - meaning) * F.normalize(rows[fillers].mean(0, keepdim=True), dim=-1)
    mixed += meaning * F.normalize(share * pairs[0] + (1 - share) * pairs[1], dim=-1) + 0.3 * F.normalize(noise, dim=-1)
    return F.normalize(mixed, dim=-1) * words.norm(dim=-1).median()
