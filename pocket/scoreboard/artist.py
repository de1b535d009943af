"""Draws with the pocket models in plain PyTorch: words of any row, scaled words, maps of where a word looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.adapt.bridge import SOUND_ERROR, Bridge, fit
from ..models.autoencoder import Autoencoder
from ..models.diffusion import alphas_bar, guided, sample
from ..models.text import WORDS, TextEncoder, key_bias
from ..models.unet import HEADS, UNet
from ..models.vocabulary import table
from ..training.pictures import to_tensor, to_uint8
from ..world.captions import END, SLOT_ID, START, token_ids

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

    def states(self, texts: list[str], slots: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States (B, 25, 768) of prompts whose slots `*` hold `slots` (B, k, 768) in order, and the slots' columns (B, k)."""
        embedded, columns, ends = [], [], []
        for number, text in enumerate(texts):
            ids = token_ids(text)
            ends.append(len(ids) - 1)
            ids = ids[: WORDS + 1] + [END] * (WORDS + 1 - len(ids))
            rows = self.table[[max(0, i) for i in ids]].clone()
            places = [place for place, i in enumerate(ids) if i == SLOT_ID]
            for k, place in enumerate(places):
                rows[place] = slots[number, k]
            embedded.append(rows)
            columns.append(places)
        return self.text(torch.stack(embedded), torch.tensor(ends)), torch.tensor(columns)

    @torch.no_grad()
    def paint(self, texts: list[str], slots: Tensor | None = None, seed: int = 0, **settings) -> np.ndarray:
        """Pictures (B, 128, 128, 3) uint8; settings: steps, guidance, scales (B,) of the first slot (Eq. 8)."""
        generator = torch.Generator().manual_seed(seed)
        scales, done = settings.get("scales"), []
        empty = self.states([""])[0]
        for first in range(0, len(texts), BATCH):
            part = slice(first, first + BATCH)
            states, columns = self.states(texts[part], None if slots is None else slots[part])
            denoise = guided(self.unet, states, empty, key_bias(), settings.get("guidance", 5.0))
            with self._scaled(None if scales is None else scales[part], columns):
                latents = sample(denoise, (len(states), 4, 16, 16), generator, settings.get("steps", 12))
            done.append(to_uint8(self.autoencoder.decoder(latents)))
        return np.concatenate(done)

    def _cross_attentions(self) -> list:
        return [m.attn2 for m in self.unet.modules() if hasattr(m, "attn2")]

    @contextmanager
    def _scaled(self, scales: Tensor | None, columns: Tensor) -> Iterator[None]:
        """Eq. 8: the first slot's share of each attention output times its scale, for the prompted half of a batch."""
        if scales is None:
            yield
            return

        def multiply(_, __, value: Tensor) -> Tensor:
            value = value.clone()
            value[torch.arange(len(scales)), columns[:, 0]] *= scales[:, None].to(value)
            return value

        handles = [attention.to_v.register_forward_hook(multiply) for attention in self._cross_attentions()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def maps(
        self, pictures: np.ndarray, texts: list[str], slots: Tensor, timesteps=(200, 300, 400)
    ) -> tuple[Tensor, Tensor]:
        """Where the first slot looks in noised drawings, (B, 8, 8), and how much of all looks rests on the padding, (B,):
        means over heads, layers of that size and timesteps."""
        latents, bar = self.autoencoder.encoder(to_tensor(pictures)), alphas_bar()
        states, columns = self.states(texts, slots)
        found, resting, seen = [], [], {}
        handles = []
        for attention in self._cross_attentions():
            for name in ("to_q", "to_k"):
                module = getattr(attention, name)
                handles.append(module.register_forward_hook(lambda m, _, out: seen.__setitem__(m, out)))
        generator = torch.Generator().manual_seed(0)
        try:
            for t in timesteps:
                noise = torch.randn(latents.shape, generator=generator)
                x = bar[t].sqrt() * latents + (1 - bar[t]).sqrt() * noise
                self.unet(x, torch.full((len(x),), t), states, key_bias())
                for attention in self._cross_attentions():
                    chances = _chances(seen[attention.to_q], seen[attention.to_k])
                    if chances.shape[2] == 64:
                        own = chances.mean(1)[torch.arange(len(x)), :, columns[:, 0]]
                        found.append(own.view(-1, 8, 8))
                        resting.append(chances[..., -1].mean((1, 2)))  # the last column stands for all of the padding
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(found).mean(0), torch.stack(resting).mean(0)

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

    def words_of(self, features: Tensor, bridge: Bridge) -> Tensor:
        """A* of sounds without training (N, 768)."""
        return torch.stack([self.word_scale() * bridge.carry(feature)["clip_l"] for feature in features])


def _chances(q: Tensor, k: Tensor) -> Tensor:
    batch, _, width = q.shape
    q, k = (t.view(batch, -1, HEADS, width // HEADS).transpose(1, 2) for t in (q, k))
    return (q @ k.transpose(-1, -2) * (width // HEADS) ** -0.5 + key_bias()).softmax(-1)


def unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)
