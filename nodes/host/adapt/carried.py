"""Where the sounds of a training lie among words: by labels, over a bridge, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.labels import directions
from ....aai_models.align.alignment import CLIP_L
from ....aai_models.errors import CheckpointError, TokenError
from ..base.centre import centre_of
from ..base.types import AudioFeature
from .bridge import bridge_of, origin, require_bridge, unaligned
from .listen import Listening, has_labels, label_rows, listen
from .row_word import ORIGIN, is_row, reads_rows, training_notes, word_keys
from .sound_word import falls_back, label_origin, own_texts_of


@dataclass(frozen=True)
class Carried:
    """The sounds of a training among words."""

    directions: tuple[dict[str, Tensor], ...] = ()  # of each sound, key -> (width,) or (vectors, width); empty: nowhere
    origin: tuple[dict[str, str], ...] = ()  # metadata of each; empty: nothing to say
    notes: tuple[str, ...] = ()  # what to tell of it
    candidates: tuple[str, ...] = ()  # labels that the start may be chosen from


def carry(clip, sounds: AudioFeature, config: AdaptConfig) -> Carried:
    """The sounds by `config.bridge`.

    `auto`: labels where the encoder has texts or labels; the ridge for an aligned one that is not sure; else none. Sounds
    that are rows of the CLIP lie among its words already. Loads what is not kept yet. Raises `TokenError` for a way that
    the sounds cannot take.
    """
    if is_row(sounds) and (
        config.bridge == "none" or (config.bridge == "auto" and (reads_rows(clip) or not sounds.labels))
    ):
        return _as_rows(clip, sounds, config)
    if config.bridge == "none":
        return Carried()
    if config.bridge == "auto" and not has_labels(clip, sounds):
        return Carried(notes=_why_none(sounds))
    if config.bridge in ("auto", "labels"):
        try:
            heard = listen(clip, sounds, Listening())
        except (CheckpointError, TokenError) as error:
            if config.bridge == "labels":
                raise
            return Carried(notes=(f"bridge = none: {error}",))
        if not (config.bridge == "auto" and falls_back(sounds, heard)):
            return _by_labels(clip, heard, config)
    return _over_bridge(clip, sounds, "ridge" if config.bridge == "auto" else config.bridge)


def _why_none(sounds: AudioFeature) -> tuple[str, ...]:
    if sounds.aligned_with == CLIP_L:
        return ()
    return (f"bridge = none: {unaligned(sounds.encoder)}, so its sound does not tell where the word begins.",)


def _as_rows(clip, sounds: AudioFeature, config: AdaptConfig) -> Carried:
    """Nothing is carried: each sound is a word of CLIP-L."""
    heard = listen(clip, sounds, Listening()) if sounds.labels else []
    said = tuple(line for one in heard for line in one.text() if line.startswith("Heard"))
    notes = (*said, *training_notes(sounds, word_keys(clip), config))
    candidates = heard[0].candidates if heard else ()
    return Carried(origin=(ORIGIN,) * len(sounds.vectors), notes=notes, candidates=candidates)


def _by_labels(clip, heard: list, config: AdaptConfig) -> Carried:
    found = tuple(directions(one.drawn, label_rows(clip, one.drawn), config.vectors) for one in heard)
    origins = tuple(label_origin(one, Listening()) for one in heard)
    return Carried(found, origins, tuple(line for one in heard for line in one.text()), heard[0].candidates)


def _over_bridge(clip, sounds: AudioFeature, kind: str) -> Carried:
    own, centre = own_texts_of(clip, sounds), sounds.centre
    if own is None:
        require_bridge(clip, sounds.vectors.shape[-1], sounds.aligned_with, sounds.encoder)
    else:
        centre = centre_of(sounds.ear)
    bridge = bridge_of(clip, 0, kind, own)
    found = tuple(bridge.carry(sound, centre) for sound in sounds.vectors)
    return Carried(found, (origin(bridge, 0),) * len(found), tuple(bridge.text()))
