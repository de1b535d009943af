"""The plan of a training, made before any model is loaded: its words, its start, its name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ....aai_models.adapt.bridge import Bridge
from ....aai_models.adapt.checkpoint import run_inputs
from ....aai_models.adapt.choice import candidates
from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.start import WordStatistics, initial_token
from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.alignment import CLIP_L
from ..base.digest import patched_digest, weights_digest
from ..base.types import AudioFeature
from ..base.vocabulary import word_rows, word_statistics
from .bridge import bridge_of, can_bridge, origin, require_bridge, unaligned
from .references import Groups, pictures_digest
from .row_word import is_row, origin_of_row, training_notes


@dataclass(frozen=True)
class Plan:
    """A training before it begins."""

    starts: tuple[AudioToken, ...]  # the word of each sound at step 0; a warm start or the best word is still to come
    words: dict[str, WordStatistics]
    bridge: Bridge | None
    sigmas: Tensor  # the model's noise levels, (T,) float32, CPU
    inputs: dict[str, str]  # what decides the outcome
    notes: tuple[str, ...] = ()  # of the bridge, or of why there is none


def plan(
    model, clip, vae, vision, sounds: AudioFeature, groups: Groups, masks: list[Tensor], config: AdaptConfig
) -> Plan:
    """The plan of a training. Loads nothing but, where the bridge of this CLIP is not kept yet, the CLIP.

    Raises `TrainingError` and `TokenError` for what cannot be trained.
    """
    words = word_statistics(clip)
    rows = word_rows(clip, config.words) if config.start == "words" else {}
    bridge = _bridge(clip, sounds, config)
    starts = []
    for index, sound in enumerate(sounds.vectors):
        directions = bridge.carry(sound, sounds.centre) if bridge else None
        token = initial_token(sound, words, config, directions, rows, sounds.norm(index))
        made = origin(bridge, 0) if bridge else origin_of_row(sounds.aligned_with)
        starts.append(replace(token, metadata=made) if made else token)
    sampling = model.get_model_object("model_sampling")
    sigmas = sampling.sigmas.detach().float().cpu()
    inputs = run_inputs(config, tuple(starts), pictures_digest(vae, groups, masks), sigmas)
    inputs["model"] = f"{patched_digest(model)} {'-'.join(kind.__name__ for kind in type(sampling).__mro__[:-1])}"
    inputs["clip"] = f"{patched_digest(clip.patcher)} layer {clip.layer_idx}"
    if config.start == "warm_start":
        inputs["clip_vision"] = weights_digest(vision.model)
    if config.start == "best_word":
        inputs["words"] = ", ".join(candidates(config))
    notes = training_notes(sounds, words, config) if is_row(sounds) else _notes(bridge, sounds, config)
    return Plan(tuple(starts), words, bridge, sigmas, inputs, notes)


def _bridge(clip, sounds: AudioFeature, config: AdaptConfig) -> Bridge | None:
    ear = (sounds.vectors.shape[-1], sounds.aligned_with)
    if config.bridge == "none" or (config.bridge == "auto" and not can_bridge(clip, *ear)):
        return None
    require_bridge(clip, *ear, sounds.encoder)
    return bridge_of(clip, 0, "ridge" if config.bridge == "auto" else config.bridge)


def _notes(bridge: Bridge | None, sounds: AudioFeature, config: AdaptConfig) -> tuple[str, ...]:
    if bridge is not None:
        return tuple(bridge.text())
    if config.bridge == "auto" and sounds.aligned_with != CLIP_L:
        return (f"bridge = none: {unaligned(sounds.encoder)}, so its sound does not tell where the word begins.",)
    return ()
