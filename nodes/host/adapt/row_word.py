"""Words of sounds that are rows of CLIP-L's token table already, as AudioToken's are: nothing is carried over a bridge."""

from __future__ import annotations

import json
from collections.abc import Collection

import torch

from ....aai_models.adapt.bridge import nearest_words, towards_words
from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.alignment import CLIP_L, CLIP_L_ROWS, CLIP_L_WIDTH
from ....aai_models.errors import TokenError
from ..base.prompt_words import require_encoders, sub_tokenizers
from ..base.types import AudioFeature
from ..base.vocabulary import vocabulary_rows
from .bridge import whole_words

MADE_OF = "aligned_with"  # in a token's metadata
ORIGIN = {MADE_OF: CLIP_L_ROWS}  # what the metadata of a token says whose sound is a row


def is_row(sound: AudioFeature) -> bool:
    """Whether sounds are words of CLIP-L already."""
    return sound.aligned_with == CLIP_L_ROWS


def reads_rows(clip) -> bool:
    """Whether CLIP-L is the one text encoder of a CLIP: rows of it say nothing to any other."""
    return {t.embedding_key: t.embedding_size for t in require_encoders(clip).values()} == {CLIP_L: CLIP_L_WIDTH}


def word_keys(clip) -> list[str]:
    """The text encoders of a CLIP."""
    return sorted(require_encoders(clip))


def _found(clip) -> str:
    widths = {key: tokenizer.embedding_size for key, tokenizer in require_encoders(clip).items()}
    return " and ".join(f"{key} ({width} wide)" for key, width in sorted(widths.items()))


def not_its_own(clip, sound: AudioFeature) -> str:
    """Why a word was made of labels though the encoder makes words itself."""
    return f"{sound.encoder}'s own words are for {CLIP_L} alone, the text encoder of SD1.x; this CLIP reads by {_found(clip)}."


def word_of_row(clip, sound: AudioFeature, gain: float, nearest: float = 0.0) -> tuple[AudioToken, str]:
    """The word that one sound is, and what to tell of it. `nearest`: the share of `towards_words`.

    Raises `TokenError` for a CLIP that does not read it.
    """
    if not reads_rows(clip):
        raise TokenError(
            f"The connected CLIP reads words by {_found(clip)}",
            f"{sound.encoder}'s own words are for {CLIP_L} ({CLIP_L_WIDTH} wide) alone, the text encoder of SD1.x",
            "Use a checkpoint of SD1.x, set `bridge` to labels, or learn a word for this one with Train Audio Token",
        )
    (name,) = sub_tokenizers(clip)
    words, ids = whole_words(clip)
    rows = vocabulary_rows(clip, name).cpu()
    length, ordinary = sound.norm(0) or 1.0, float(rows.norm(dim=-1).median())
    direction = towards_words(sound.vectors[0].detach().clone().float().cpu(), rows[ids], nearest)
    # `raw`: another sound brings its own length along.
    metadata = {**ORIGIN, "config": json.dumps({"scale": "raw"})}
    token = AudioToken(direction, {CLIP_L: torch.zeros(1, CLIP_L_WIDTH)}, {CLIP_L: length}, gain, metadata)
    near = ", ".join(f"{word} {value:.2f}" for word, value in nearest_words(direction, rows[ids], words))
    return token, (
        f"The word is {sound.encoder}'s own, {gain * length:.2f} long (ordinary words: {ordinary:.2f}). It needs no bridge.\n"
        f"{CLIP_L}, nearest words: {near}"
    )


def training_notes(sound: AudioFeature, keys: Collection[str], config: AdaptConfig) -> tuple[str, ...]:
    """What a training's report says of sounds that are rows. `keys`: the text encoders of its CLIP."""
    if config.mode == "adapter_only":
        return ()
    notes = []
    if CLIP_L in keys:
        begins = f"The sound is {sound.encoder}'s word for {CLIP_L}, where this word begins"
        if config.scale != "raw":
            begins += f", at another length (`scale` {config.scale}; raw keeps its own, {sound.norm(0) or 1.0:.2f})"
        notes.append(f"{begins}.")
    others = [key for key in keys if key != CLIP_L]
    if others:
        notes.append(
            f"For {' and '.join(others)} the sound is no word and does not tell where this word begins; `bridge` labels does."
        )
    return tuple(notes)


def require_same_kind(token: AudioToken, sound: AudioFeature) -> None:
    """Raise `TokenError` where a word whose sound is a row is given one that is none, or the other way round."""
    made_of, given = token.metadata.get(MADE_OF) == CLIP_L_ROWS, is_row(sound)
    if made_of != given and any(token.scales.values()):
        said = ["not AudioToken's", "AudioToken's"]
        raise TokenError(
            f"The sound in this word is {said[made_of]}, the new one is {said[given]}",
            "Both must come from one audio encoder",
            "Encode the sound with the audio encoder that the word was made with",
        )
