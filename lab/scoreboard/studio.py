"""The pocket models inside ComfyUI, drawing and editing many pictures at once through what the pack's nodes call.

Prompts of one batch hold different words at the same columns, so that one conditioning carries all their states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import comfy.sample
import numpy as np
import torch
from aai_pack.nodes.host.base.prompt_words import PromptWords, encode
from aai_pack.nodes.host.inject import edits, loudness, photo, prompt_to_prompt, watch
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.nodes.host.pocket import models
from torch import Tensor

from ...aai_models.adapt.token import AudioToken
from ...pocket.world.captions import END

STEPS, GUIDANCE = 12, 5.0
BATCH = 36
WORD = "<A*>"


@dataclass(frozen=True)
class Edited:
    """Pictures of the source prompt, of its edit, and of the edit's prompt without injection; all from one noise."""

    source: np.ndarray  # (B, 128, 128, 3) uint8, as the others
    edit: np.ndarray
    free: np.ndarray


def as_word(row: Tensor) -> AudioToken:
    """A row (768,) as the word A*."""
    return AudioToken(torch.zeros(768), {"clip_l": row[None].float()}, {"clip_l": 0.0})


class Studio:
    """ComfyUI's MODEL, CLIP and VAE of the pocket world. Prompts write A* as `*`; `rows` (B, 768) or None stand there."""

    @torch.inference_mode()
    def __init__(self):
        self.model, self.clip, self.vae, self.hearing, _ = models.load_pocket()
        self._empty = encode(self.clip, "", {})

    @torch.inference_mode()
    def paint(
        self, texts: list[str], rows: Tensor | None, seed: int, scale: float = 1.0, words: list[str] | None = None
    ) -> np.ndarray:
        """Pictures (B, 128, 128, 3) uint8; `scale` is Eq. 8's of a word of each prompt (A* unless `words` names others),
        as Loudness Scale sets it."""
        pictures = np.empty((len(texts), 128, 128, 3), np.uint8)
        model = loudness.patched(self.model) if scale != 1.0 else self.model
        encoded, words = self._encode(texts, rows), words or [WORD] * len(texts)
        labels = _where(encoded, words) if scale != 1.0 else None
        for part in batches(encoded, labels=labels):
            told = _joined(encoded, part)
            if scale != 1.0:
                told = loudness.scaled(told, words[part[0]], scale, 0.0, 1.0, "own")
            pictures[part] = self._sample(model, told, torch.zeros(len(part), 4, 16, 16), seed + part[0])
        return pictures

    @torch.inference_mode()
    def edit(
        self, sources: list[str], targets: list[str], rows: Tensor | None, seed: int, free: bool, **settings
    ) -> Edited:
        """Prompt-to-prompt edits; `settings` as `EditSettings` has them. Without `free` those pictures stay black."""
        shape = (len(sources), 128, 128, 3)
        found = Edited(*(np.zeros(shape, np.uint8) for _ in range(3)))
        before, after = self._encode(sources, None), self._encode(targets, rows)
        model = prompt_to_prompt.patched(self.model)
        for part in batches(before, after):
            source, target = _joined(before, part), _joined(after, part)
            latent, own = torch.zeros(len(part), 4, 16, 16), list(range(len(part)))
            planned = edits.plan(source, [target], edits.EditSettings(**settings), len(part))
            both = branch_latent({"samples": latent}, 2)
            drawn = self._sample(model, planned, both["samples"], seed + part[0], both["batch_index"])
            found.source[part], found.edit[part] = np.split(drawn, 2)
            if free:
                found.free[part] = self._sample(self.model, target, latent, seed + part[0], own)
        return found

    @torch.inference_mode()
    def look(self, pictures: np.ndarray, texts: list[str], rows: Tensor | None, words: list[str], windows: int):
        """Where a word of each prompt (`words`) acts on drawings that are the source: maps (windows + 1, B, h, w), the whole
        run first, then each part of it."""
        encoded, found = self._encode(texts, rows), {}
        for part in batches(encoded, labels=_where(encoded, words)):
            model, maps = watch.watched(self.model, words[part[0]], windows, 2)
            told = photo.tagged(_joined(encoded, part), "virtual")
            planned = edits.plan(told, [], edits.EditSettings(), len(part))
            latent = photo.encode_photo(self.vae, torch.from_numpy(pictures[part]).float() / 255)
            self._sample(prompt_to_prompt.patched(model), planned, latent, 0, guidance=1.0)
            averages = [maps.average(window)[:, 0] for window in (None, *range(windows))]
            found |= {i: maps for i, maps in zip(part, torch.stack(averages, 1), strict=True)}
        return torch.stack([found[i] for i in range(len(texts))], 1)

    def _encode(self, texts: list[str], rows: Tensor | None) -> list:
        tokens = [{}] * len(texts) if rows is None else [{1: as_word(row)} for row in rows]
        return [encode(self.clip, text.replace("*", WORD), own) for text, own in zip(texts, tokens, strict=True)]

    def _sample(self, model, positive, latent: Tensor, seed: int, own=None, guidance: float = GUIDANCE) -> np.ndarray:
        noise = comfy.sample.prepare_noise(latent, seed, own)
        latents = comfy.sample.sample(
            model,
            noise,
            STEPS,
            guidance,
            "euler",
            "normal",
            positive,
            self._empty,
            latent,
            disable_pbar=True,
            seed=seed,
        )
        return (self.vae.decode(latents).clamp(0, 1) * 255).round().byte().numpy()


def _joined(encoded: list, part: list[int]) -> list:
    """One CONDITIONING of the prompts `part`, as the first of them describes itself."""
    first = encoded[part[0]][0][1]
    return [[torch.cat([encoded[i][0][0] for i in part]), first]]


def _build(conditioning: list) -> tuple:
    """What prompts of one batch share: where their words stand, and where they end."""
    known = PromptWords.of(conditioning[0][1])
    return tuple(known.columns.values()), known.ids.index(END)


def _where(encoded: list, words: list[str]) -> list[tuple[int, ...]]:
    """The columns of a word in each prompt."""
    known = (PromptWords.of(conditioning[0][1]) for conditioning in encoded)
    return [tuple(k.require_columns(word, "words")) for k, word in zip(known, words, strict=True)]


def batches(*encoded: list, labels: list[tuple] | None = None) -> Iterator[list[int]]:
    """Indices of prompts of equal build, at most `BATCH` at once; all of one of `labels`, if there are any."""
    count = len(encoded[0])
    keys = [(labels[i] if labels else (), *(_build(prompts[i]) for prompts in encoded)) for i in range(count)]
    for _, same in groupby(sorted(range(count), key=lambda i: (repr(keys[i]), i)), key=lambda i: keys[i]):
        indices = list(same)
        yield from (indices[start : start + BATCH] for start in range(0, len(indices), BATCH))
