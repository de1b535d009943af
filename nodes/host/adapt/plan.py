"""The plan of a training, made before any model is loaded: its words, its start, its name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ....aai_models.adapt.checkpoint import run_inputs
from ....aai_models.adapt.choice import candidates
from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.start import WordStatistics, initial_token
from ....aai_models.adapt.token import AudioToken
from ..base.digest import patched_digest, weights_digest
from ..base.types import AudioFeature
from ..base.vocabulary import word_rows, word_statistics
from .carried import carry
from .references import Groups, pictures_digest


@dataclass(frozen=True)
class Plan:
    """A training before it begins."""

    starts: tuple[AudioToken, ...]  # the word of each sound at step 0; a warm start or the best word is still to come
    words: dict[str, WordStatistics]
    candidates: tuple[str, ...]  # words that `best_word` chooses from
    sigmas: Tensor  # the model's noise levels, (T,) float32, CPU
    inputs: dict[str, str]  # what decides the outcome
    notes: tuple[str, ...] = ()  # of what was heard, of the bridge, or of why there is none


def plan(
    model, clip, vae, vision, sounds: AudioFeature, groups: Groups, masks: list[Tensor], config: AdaptConfig
) -> Plan:
    """The plan of a training. Loads nothing but what the labels or the bridge of this CLIP need that is not kept yet.

    Raises `TrainingError` and `TokenError` for what cannot be trained.
    """
    words = word_statistics(clip)
    rows = word_rows(clip, config.words) if config.start == "words" else {}
    carried = carry(clip, sounds, config)
    starts = []
    for index, sound in enumerate(sounds.vectors):
        directions = carried.directions[index] if carried.directions else None
        token = initial_token(sound, words, config, directions, rows, sounds.norm(index))
        starts.append(replace(token, metadata=carried.origin[index]) if carried.origin else token)
    choice = candidates(config, carried.candidates)
    sampling = model.get_model_object("model_sampling")
    sigmas = sampling.sigmas.detach().float().cpu()
    inputs = run_inputs(config, tuple(starts), pictures_digest(vae, groups, masks), sigmas)
    inputs["model"] = f"{patched_digest(model)} {'-'.join(kind.__name__ for kind in type(sampling).__mro__[:-1])}"
    inputs["clip"] = f"{patched_digest(clip.patcher)} layer {clip.layer_idx}"
    if config.start == "warm_start":
        inputs["clip_vision"] = weights_digest(vision.model)
    if config.start == "best_word":
        inputs["words"] = ", ".join(choice)
    return Plan(tuple(starts), words, choice, sigmas, inputs, carried.notes)
