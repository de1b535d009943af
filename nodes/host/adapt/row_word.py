"""Words of sounds that are rows of CLIP-L's token table already, as AudioToken's are: nothing is carried over a bridge."""

from __future__ import annotations

import json

import torch

from ....aai_models.adapt.bridge import nearest_words, towards_words
from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.start import WordStatistics
from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.alignment import CLIP_L, CLIP_L_ROWS
from ....aai_models.errors import TokenError
from ..base.prompt_words import require_encoders, sub_tokenizers
from ..base.types import AudioFeature
from ..base.vocabulary import vocabulary_rows
from .bridge import whole_words

ORIGIN = "aligned_with"  # in a token's metadata: what its sound is a row of
SHOWN = 5  # labels


def require_reader(clip, encoder: str) -> None:
    """Raise `TokenError` unless CLIP-L is the one text encoder of a CLIP: rows of it say nothing to any other."""
    widths = {key: tokenizer.embedding_size for key, tokenizer in require_encoders(clip).items()}
    if widths != {CLIP_L: 768}:
        found = " and ".join(f"{key} ({width} wide)" for key, width in sorted(widths.items()))
        raise TokenError(
            f"The connected CLIP reads words by {found}",
            f"The words of {encoder or 'this encoder'} are for clip_l (768 wide) alone, the text encoder of SD1.x",
            "Use a checkpoint of SD1.x, or learn a word for this one with Train Audio Token",
        )


def word_of_row(clip, sound: AudioFeature, gain: float, nearest: float = 0.0) -> tuple[AudioToken, str]:
    """The word that one sound is, and what was heard. `nearest`: the share of `towards_words`.

    Raises `TokenError` for a CLIP that does not read it.
    """
    require_reader(clip, sound.encoder)
    (name,) = sub_tokenizers(clip)
    words, ids = whole_words(clip)
    rows = vocabulary_rows(clip, name).cpu()
    length, ordinary = sound.norm(0) or 1.0, float(rows.norm(dim=-1).median())
    direction = towards_words(sound.vectors[0].detach().clone().float().cpu(), rows[ids], nearest)
    # `raw`: another sound brings its own length along.
    metadata = {ORIGIN: CLIP_L_ROWS, "config": json.dumps({"scale": "raw"})}
    token = AudioToken(direction, {CLIP_L: torch.zeros(1, direction.shape[-1])}, {CLIP_L: length}, gain, metadata)
    near = ", ".join(f"{word} {value:.2f}" for word, value in nearest_words(direction, rows[ids], words))
    return token, "\n".join(
        [
            *labels_text(sound),
            f"{CLIP_L}, nearest words: {near}",
            f"The word is {sound.encoder}'s own, {gain * length:.2f} long (ordinary words: {ordinary:.2f}). It needs no "
            "bridge: `bridge` and `vocabulary` are not used.",
        ]
    )


def labels_text(sound: AudioFeature) -> list[str]:
    """What an encoder's own labels say of each sound, a line each; nothing where it has none."""
    lines = []
    for number, shares in enumerate(sound.labels, start=1):
        which = f" in sound {number}" if len(sound.labels) > 1 else ""
        lines.append(f"Heard{which}: {', '.join(f'{name} {share:.2f}' for name, share in shares[:SHOWN])}.")
    return lines


def training_notes(sound: AudioFeature, words: dict[str, WordStatistics], config: AdaptConfig) -> tuple[str, ...]:
    """What a training's report says of sounds that are rows."""
    notes = labels_text(sound)
    if config.mode == "adapter_only":
        return tuple(notes)
    if CLIP_L in words:
        begins = f"bridge = none: the sound is {sound.encoder}'s word for {CLIP_L}, where this word begins"
        if config.scale != "raw":
            begins += f", at another length (`scale` {config.scale}; raw keeps its own, {sound.norm(0) or 1.0:.2f})"
        notes.append(f"{begins}.")
    others = [key for key in words if key != CLIP_L]
    if others:
        notes.append(f"For {' and '.join(others)} the sound is no word and does not tell where this word begins.")
    return tuple(notes)


def origin_of_row(aligned_with: str) -> dict[str, str]:
    """What the metadata of a token says of a sound that is a row; nothing of any other."""
    return {ORIGIN: CLIP_L_ROWS} if aligned_with == CLIP_L_ROWS else {}


def require_same_kind(token: AudioToken, sound: AudioFeature) -> None:
    """Raise `TokenError` where a word whose sound is a row is given one that is none, or the other way round."""
    kinds = [token.metadata.get(ORIGIN) == CLIP_L_ROWS, sound.aligned_with == CLIP_L_ROWS]
    if kinds[0] != kinds[1] and any(token.scales.values()):
        said = ["not AudioToken's", "AudioToken's"]
        raise TokenError(
            f"The sound in this word is {said[kinds[0]]}, the new one is {said[kinds[1]]}",
            "Both must come from one audio encoder",
            "Encode the sound with the audio encoder that the word was made with",
        )


def is_row(sound: AudioFeature) -> bool:
    """Whether sounds are words of CLIP-L already."""
    return sound.aligned_with == CLIP_L_ROWS
