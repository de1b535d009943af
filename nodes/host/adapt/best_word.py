"""The start at the best of many ordinary words, on the host's frozen models."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import comfy.utils
import torch
from torch import Tensor

from ....aai_models.adapt.choice import LOOKS, ROUNDS, candidates, choose
from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.objective import Draw, NoisySample
from ....aai_models.adapt.start import at_word
from ....aai_models.adapt.token import AudioToken
from ..base.vocabulary import word_rows
from .loss import DiffusionLoss


def _rows(clip, word: str, config: AdaptConfig) -> dict[str, Tensor]:
    """The rows of a word; of one that takes more tokens than `vectors` has room for their mean, unless a person wrote it."""
    rows = word_rows(clip, word)
    if config.words.strip() or all(r.shape[0] <= config.vectors for r in rows.values()):
        return rows
    return {key: r.mean(0, keepdim=True) for key, r in rows.items()}


def at_best_word(
    clip,
    draw: Draw,
    loss: DiffusionLoss,
    starts: tuple[AudioToken, ...],
    config: AdaptConfig,
    words: tuple[str, ...] | None = None,
) -> tuple[tuple[AudioToken, ...], tuple[str, ...]]:
    """The starts (one for each sound), for `best_word` with an adapter that makes the first that word, and what to tell of it.

    `words` are those to choose from, `candidates` without. Shows progress, can be cancelled.
    """
    if config.start != "best_word" or config.mode == "sound_only":
        return starts, ()
    words, bar = words or candidates(config), comfy.utils.ProgressBar(1)
    # The same tensors for every sample, so that the loss can tell that the word is the same.
    begun = {word: at_word(starts[0], _rows(clip, word, config), config.vectors) for word in words}
    vectors = {word: token.vectors for word, token in begun.items()}
    samples = draw.held_out(ROUNDS * LOOKS, torch.Generator().manual_seed(config.seed + 2))

    def on_look(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        mm.throw_exception_if_processing_interrupted()

    @torch.no_grad()
    def surprise(word: str, sample: NoisySample) -> float:
        return float(loss(vectors[word], sample))

    found = choose(words, surprise, samples, on_look)
    best = found[0][0]
    told = ", ".join(f"{word} {value:.3f}" for word, value in found)
    adapters = begun[best].adapters
    return (
        tuple(replace(s, adapters=adapters, metadata={**s.metadata, "start_word": best}) for s in starts),
        (f'Started from "{best}", the word of {len(words)} with the lowest loss (logarithm: {told}).',),
    )
