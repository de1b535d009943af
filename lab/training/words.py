"""The words of training: which row of the text encoder's table each token has, and rows for things without a word."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...pocket.models import weights
from ...pocket.models.text import WIDTH, WORDS, TextEncoder
from ...pocket.world.captions import END, FILLERS, SLOT_ID, START, STYLE_SLOT_ID, token_ids, vocabulary
from ...pocket.world.names import COLOURS, NAMED, PLACES, SIDES, SIZES, STYLES, UNNAMED
from .pictures import RANDOM_STYLES, SHAPES

HIDDEN = [*UNNAMED, *SHAPES]  # things that have a row, but no word


def _trained_words() -> list[str]:
    """Every word that a caption can hold."""
    words = {"a", "of", "and", "with", "the", "in", "on", "left", "right", "style", "picture", "thing"}
    words |= {*COLOURS, *NAMED, *SIDES, *SIZES, *STYLES.values(), *FILLERS}
    for told in PLACES.values():
        words |= {word for phrase in told for word in phrase.split()}
    return sorted(words)


# CLIP's token ids in the order of the table: start, end, then the words.
TOKENS = [START, END, *(number for word in _trained_words() for number in vocabulary()[word])]
ROW_OF = {number: row for row, number in enumerate(TOKENS)}


def indices(text: str) -> list[int]:
    """Rows of a caption's tokens, padded with the end token to `WORDS` + 1; below 0 where a slot is."""
    ids = token_ids(text)
    if len(ids) > WORDS:
        raise ValueError(f"The caption {text!r} has {len(ids)} tokens; {WORDS} fit")
    ids += [END] * (WORDS + 1 - len(ids))
    return [number if number < 0 else ROW_OF[number] for number in ids]


def end_columns(rows: Tensor) -> Tensor:
    """The column of the first end token of each caption (B,)."""
    return (rows == 1).int().argmax(dim=1)


class Words(nn.Module):
    """The text encoder, and rows of things and of styles that have no word."""

    def __init__(self):
        super().__init__()
        self.encoder = TextEncoder(len(TOKENS))
        self.hidden = nn.Parameter(torch.randn(len(HIDDEN), WIDTH) * 0.03)
        self.styles = nn.Parameter(torch.randn(len(RANDOM_STYLES), WIDTH) * 0.03)

    @classmethod
    def shipped(cls) -> Words:
        """Those of the weights that came with the pack."""
        words, (parts, _) = cls(), weights.load()
        words.encoder = TextEncoder.from_host_state_dict(parts["text"])
        words.hidden.data.copy_(parts["text"]["hidden"])
        words.styles.data.copy_(parts["text"]["styles"])
        return words

    def forward(self, rows: Tensor, hidden: Tensor) -> Tensor:
        """Row indices (B, L) -> states (B, L, 768). In slots stand the things of these numbers (B,)."""
        return self.states(self.embed(rows, self.hidden[hidden]), rows)

    def embed(self, rows: Tensor, thing: Tensor, style: Tensor | None = None) -> Tensor:
        """Row indices (B, L) -> rows (B, L, 768), with those of a thing and of a style (B, 768) in their slots."""
        embedded = self.encoder.token_embedding[rows.clamp_min(0)]
        embedded = torch.where((rows == SLOT_ID).unsqueeze(-1), thing.unsqueeze(1), embedded)
        if style is not None:
            embedded = torch.where((rows == STYLE_SLOT_ID).unsqueeze(-1), style.unsqueeze(1), embedded)
        return embedded

    def states(self, embedded: Tensor, rows: Tensor) -> Tensor:
        """Rows (B, L, 768) of these indices (B, L) -> states (B, L, 768)."""
        return self.encoder(embedded, end_columns(rows))
