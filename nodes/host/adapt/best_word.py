"""The start at the best of many ordinary words, on the host's frozen models."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import comfy.utils
import torch

from ....aai_models.adapt.choice import LOOKS, ROUNDS, candidates, choose
from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.objective import Draw, NoisySample
from ....aai_models.adapt.start import at_word
from ....aai_models.adapt.token import AudioToken
from ..base.vocabulary import word_rows
from .loss import DiffusionLoss


def at_best_word(
    clip, draw: Draw, loss: DiffusionLoss, starts: tuple[AudioToken, ...], config: AdaptConfig
) -> tuple[tuple[AudioToken, ...], tuple[str, ...]]:
    """The starts (one for each sound), for `best_word` with an adapter that makes the first that word, and what to tell of it.

    Shows progress, can be cancelled.
    """
    if config.start != "best_word" or config.mode == "sound_only":
        return starts, ()
    words, bar = candidates(config), comfy.utils.ProgressBar(1)
    # The same tensors for every sample, so that the loss can tell that the word is the same.
    begun = {word: at_word(starts[0], word_rows(clip, word), config.vectors) for word in words}
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
