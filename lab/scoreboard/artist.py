"""Draws with the pocket models in plain PyTorch, with words of any row."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.adapt.bridge import SOUND_ERROR, Bridge, fit, towards_words
from ...pocket.models.autoencoder import Autoencoder
from ...pocket.models.text import WORDS, TextEncoder, key_bias
from ...pocket.models.unet import UNet
from ...pocket.models.vocabulary import table
from ...pocket.world.captions import END, SLOT_ID, START, token_ids
from ..training.pictures import to_uint8
from ..training.sampling import guided, sample

BATCH = 32


class Artist:
    """The pocket UNet, text encoder and autoencoder; `parts` and `about` as `weights.load` gives them."""

    def __init__(self, parts: dict[str, dict[str, Tensor]], about: dict):
        self.unet, self.autoencoder = UNet(), Autoencoder()
        self.unet.load_state_dict(parts["unet"])
        self.autoencoder.load_state_dict(parts["vae"])
        self.text = TextEncoder.from_host_state_dict(parts["text"])
        self.table = table(parts["text"]["rows"], about["tokens"])
        for module in (self.unet, self.autoencoder, self.text):
            module.eval().requires_grad_(False)

    def row(self, word: str) -> Tensor:
        """The mean row of a word's tokens (768,)."""
        return self.table[token_ids(word)[1:-1]].mean(0)

    def states(self, texts: list[str], slots: Tensor | None = None) -> Tensor:
        """States (B, 25, 768) of prompts whose slots `*` hold `slots` (B, k, 768) in order."""
        embedded, ends = [], []
        for number, text in enumerate(texts):
            ids = token_ids(text)
            ends.append(len(ids) - 1)
            ids = ids[: WORDS + 1] + [END] * (WORDS + 1 - len(ids))
            rows = self.table[[max(0, i) for i in ids]].clone()
            places = [place for place, i in enumerate(ids) if i == SLOT_ID]
            for k, place in enumerate(places):
                rows[place] = slots[number, k]
            embedded.append(rows)
        return self.text(torch.stack(embedded), torch.tensor(ends))

    @torch.no_grad()
    def paint(self, texts: list[str], slots: Tensor | None = None, seed: int = 0, **settings) -> np.ndarray:
        """Pictures (B, 128, 128, 3) uint8; settings: steps, guidance."""
        generator, done = torch.Generator().manual_seed(seed), []
        empty = self.states([""])
        for first in range(0, len(texts), BATCH):
            part = slice(first, first + BATCH)
            states = self.states(texts[part], None if slots is None else slots[part])
            denoise = guided(self.unet, states, empty, key_bias(), settings.get("guidance", 5.0))
            latents = sample(denoise, (len(states), 4, 16, 16), generator, settings.get("steps", 10))
            done.append(to_uint8(self.autoencoder.decoder(latents)))
        return np.concatenate(done)

    @torch.no_grad()
    def bridge(self, count: int = 6000) -> Bridge:
        """The pack's bridge, from evenly spaced words of the vocabulary."""
        ids = torch.arange(0, START, START // count)
        return fit(self.features(self.table[ids]), {"clip_l": self.table[ids]}, error=SOUND_ERROR)

    def features(self, rows: Tensor) -> Tensor:
        """The text feature of single words (N, 768): the state of the end token behind each."""
        start, end = self.table[START].expand(len(rows), 1, -1), self.table[END].expand(len(rows), 1, -1)
        parts = torch.cat([start, rows[:, None], end], 1).split(512)
        return torch.cat([self.text(part, torch.full((len(part),), 2))[:, 2] for part in parts])

    def word_scale(self) -> float:
        """The norm that the pack gives to a bridged word: the vocabulary's median."""
        return float(self.table.norm(dim=-1).median())

    def words_of(self, features: Tensor, bridge: Bridge, nearest: float = 0.0) -> Tensor:
        """A* of sounds without training (N, 768); `nearest` as Word from Sound takes it."""
        heard = torch.stack([bridge.carry(feature)["clip_l"] for feature in features])
        return self.word_scale() * towards_words(heard, self.table[:START], nearest)


def unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)
