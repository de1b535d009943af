"""The word of a sound without training, by labels or over a bridge, and the same for another sound of that word."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ....aai_models.adapt.labels import Heard, directions, word_rows
from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.aligned_text import AlignedText, HasAlignedText
from ....aai_models.align.alignment import CLIP_L
from ....aai_models.errors import CheckpointError, TokenError
from ..base.centre import centre_of
from ..base.prompt_words import require_encoders
from ..base.types import AudioFeature
from .bridge import bridge_of_token, can_bridge, require_aligned, require_bridge, word_from_sound
from .listen import Listening, has_labels, label_rows, listen, texts_of, word_norms, written
from .row_word import is_row, not_its_own, reads_rows, word_of_row

BRIDGES = ("ridge", "phi", "auto", "labels")  # in the order in which they came


@dataclass(frozen=True)
class WordSettings:
    """How a word is made of a sound."""

    bridge: str = "auto"
    vocabulary: int = 0  # words of a bridge; 0 takes all
    nearest: float = 0.0  # of a bridge, as `towards_words`
    listening: Listening = field(default_factory=Listening)


def make_word(clip, sound: AudioFeature, gain: float, settings: WordSettings) -> tuple[AudioToken, str]:
    """The untrained word of one sound, and what to tell of it.

    `words` come first. `auto` takes labels, but for an aligned encoder that is not sure: its sound then goes over the ridge,
    which also carries what has no name. A sound that is a row of the CLIP already is its own word, unless labels are asked
    for. Raises `TokenError` for a sound that becomes no word.
    """
    require_encoders(clip)
    settings.listening.require()
    if (said := written(settings.listening)) is not None:
        return _of_labels(clip, sound, gain, said, settings, [*said.text(), *_also_heard(clip, sound, settings)])
    if is_row(sound) and settings.bridge != "labels":
        if reads_rows(clip) or settings.bridge != "auto" or not sound.labels:
            token, told = word_of_row(clip, sound, gain, settings.nearest)
            return token, "\n".join([*_also_heard(clip, sound, settings), told])
        heard = listen(clip, sound, settings.listening)[0]
        return _of_labels(clip, sound, gain, heard, settings, [*heard.text(), not_its_own(clip, sound)])
    if settings.bridge in ("ridge", "phi"):
        return _over_bridge(clip, sound, gain, settings, settings.bridge)
    if settings.bridge == "auto" and not has_labels(clip, sound):
        require_bridge(clip, sound.vectors.shape[-1], sound.aligned_with, sound.encoder)
    heard = listen(clip, sound, settings.listening)[0]
    if settings.bridge == "auto" and falls_back(sound, [heard]):
        token, told = _over_bridge(clip, sound, gain, settings, "ridge")
        return token, "\n".join([*_without_drawn(heard), told])
    return _of_labels(clip, sound, gain, heard, settings, heard.text())


def falls_back(sound: AudioFeature, heard: list[Heard]) -> bool:
    """Whether labels give way to the ridge of the CLIP that an encoder is aligned with, where they are not sure."""
    return sound.aligned_with == CLIP_L and not all(one.is_clear for one in heard)


def _without_drawn(heard: Heard) -> list[str]:
    """The text of labels that were heard and are not drawn."""
    lines = [line for line in heard.text() if not line.startswith("Drawn as")]
    return [*lines, "So it is drawn as it lies between the words (bridge: ridge), which suits what has no name."]


def _also_heard(clip, sound: AudioFeature, settings: WordSettings) -> list[str]:
    """What was heard beside what is written, where that can be told."""
    if not has_labels(clip, sound):
        return []
    try:
        heard = listen(clip, sound, settings.listening)[0]
    except (CheckpointError, TokenError) as error:
        return [str(error)]
    return [line for line in heard.text() if line.startswith("Heard")]


def _of_labels(
    clip, sound: AudioFeature, gain: float, heard: Heard, settings: WordSettings, told: list[str]
) -> tuple[AudioToken, str]:
    """The word of labels: their rows as they are, so that s = 1."""
    rows = word_rows(heard.drawn, label_rows(clip, heard.drawn), word_norms(clip))
    adapters = {key: torch.zeros(1, r.shape[-1]) for key, r in rows.items()}
    feature = sound.vectors[0].detach().clone().float().cpu()
    token = AudioToken(
        feature, adapters, dict.fromkeys(rows, 1.0), gain, label_origin(heard, settings.listening), directions=rows
    )
    return token, "\n".join(told)


def label_origin(heard: Heard, how: Listening) -> dict[str, str]:
    """What a token's metadata says about the labels of its sound, and how those of another one are found."""
    return {
        "bridge": "labels",
        "label_list": how.labels.strip(),
        "label_temperature": repr(how.temperature),
        **heard.metadata(),
    }


def _over_bridge(clip, sound: AudioFeature, gain: float, settings: WordSettings, kind: str) -> tuple[AudioToken, str]:
    own = own_texts_of(clip, sound)
    centre = sound.centre if own is None else centre_of(sound.ear)
    ear = (centre, settings.nearest, sound.aligned_with, sound.encoder, own)
    return word_from_sound(clip, sound.vectors[0], gain, settings.vocabulary, kind, *ear)


def own_texts_of(clip, sound: AudioFeature) -> AlignedText | None:
    """The texts that a bridge starts from where it is not CLIP-L's; None where it is, or where there are none."""
    return None if can_bridge(clip, sound.vectors.shape[-1], sound.aligned_with) else texts_of(clip, sound)


def require_carried(token: AudioToken, sound: AudioFeature) -> None:
    """Raise `TokenError` for a sound that cannot take the way of a word's own sound, whatever CLIP is connected."""
    if not (sound.labels or isinstance(sound.ear, HasAlignedText)):
        require_aligned(sound.aligned_with, sound.encoder)


def carried_like(token: AudioToken, clip, sound: AudioFeature) -> dict[str, Tensor]:
    """Where another sound lies for a word, by the way that the word's own sound took: key -> directions.

    Raises `TokenError` where the sound cannot take it.
    """
    if token.metadata.get("bridge") == "labels":
        return _labels_like(token, clip, sound)
    own = own_texts_of(clip, sound)
    _require_same_texts(token, own, sound.encoder)
    if own is None:
        require_aligned(sound.aligned_with, sound.encoder)
        return bridge_of_token(token, clip).carry(sound.vectors[0], sound.centre)
    return bridge_of_token(token, clip, own).carry(sound.vectors[0], centre_of(sound.ear))


def _require_same_texts(token: AudioToken, own: AlignedText | None, encoder: str) -> None:
    """Raise `TokenError`, before a bridge is built, where a word's bridge begins at the texts of another encoder."""
    made = token.metadata.get("bridge_vocabulary", "").partition("-")[2]
    if "bridge_vocabulary" in token.metadata and made != (own.digest if own else ""):
        raise TokenError(
            f"{encoder or 'The encoder of this sound'} did not make this word",
            "Its sound went over the bridge of another encoder's texts",
            "Encode the sound with the audio encoder that the word was made with",
        )


def _labels_like(token: AudioToken, clip, sound: AudioFeature) -> dict[str, Tensor]:
    known = token.metadata
    how = Listening(known.get("label_list", ""), float(known.get("label_temperature", "1")))
    heard = listen(clip, sound, how)[0]
    rows = label_rows(clip, heard.drawn)
    trained = json.loads(known.get("config", "{}"))
    if trained:
        return directions(heard.drawn, rows, int(trained.get("vectors", 1)))
    return word_rows(heard.drawn, rows, word_norms(clip))
