"""The bridge of the connected CLIP: made from its own vocabulary, kept under the hash of its text encoder."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ....aai_models.adapt.bridge import SOUND_ERROR, Bridge, fit, nearest_words, towards_words
from ....aai_models.adapt.phi import fit_phi
from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.aligned_text import AlignedText
from ....aai_models.align.alignment import CLIP_L, CLIP_L_ROWS
from ....aai_models.errors import TokenError
from ..base.digest import patched_digest
from ..base.prompt_words import require_encoders, sub_tokenizers
from ..base.vocabulary import vocabulary_rows
from .autograd import gradients
from .clip_texts import end_states
from .kept_texts import kept_features

log = logging.getLogger(__name__)
END_OF_WORD = "</w>"
SHORTEST = 3  # letters of a word
FOREIGN_ERROR = 1.0  # as `SOUND_ERROR`, for sounds that were trained towards whole sentences about recordings
KINDS = ("ridge", "phi")
COUNT = re.compile(r"[0-9]{1,9}")


def whole_words(clip, limit: int = 0) -> tuple[list[str], list[int]]:
    """Whole words of plain letters in the vocabulary, with their ids; `limit` takes evenly spaced ones, 0 all."""
    tokenizer = next(iter(sub_tokenizers(clip).values()))
    found = {
        text.removesuffix(END_OF_WORD): number
        for text, number in tokenizer.tokenizer.get_vocab().items()
        if text.endswith(END_OF_WORD)
    }
    pairs = sorted((w, n) for w, n in found.items() if len(w) >= SHORTEST and w.isascii() and w.isalpha())
    if limit and len(pairs) > limit:
        pairs = pairs[:: -(-len(pairs) // limit)]
    return [word for word, _ in pairs], [number for _, number in pairs]


def can_bridge(clip, width: int, aligned_with: str) -> bool:
    """Whether sounds of `width` values that are `aligned_with` a text space can be carried into the words of a CLIP."""
    sizes = {t.embedding_key: t.embedding_size for t in sub_tokenizers(clip).values()}
    return aligned_with == CLIP_L and sizes.get("clip_l") == width


def unaligned(encoder: str) -> str:
    """What is wrong with an encoder, of this name, whose sounds cross no bridge."""
    return f"{encoder or 'The encoder of this sound'} is not aligned with the texts of CLIP-L"


def require_aligned(aligned_with: str, encoder: str = "") -> None:
    """Raise `TokenError` unless an encoder's sounds lie among CLIP-L's text features: any others arrive as nonsense."""
    if aligned_with == CLIP_L_ROWS:
        raise TokenError(
            f"The sounds of {encoder or 'this encoder'} are words of CLIP-L already",
            "A bridge carries what lies among CLIP-L's text features",
            "Set `bridge` to none or auto, or connect the sound to Word from Sound",
        )
    if aligned_with != CLIP_L:
        raise TokenError(
            unaligned(encoder),
            "What it hears can be compared with pictures, but does not lie where words lie",
            "Connect the sound to Find Pictures for Sound and what it finds to Train Audio Token, with `bridge` none or auto",
        )


def require_bridge(clip, width: int, aligned_with: str, encoder: str = "") -> None:
    """Raise `TokenError` unless `can_bridge`, before minutes are spent on a bridge that nothing can cross."""
    encoders = require_encoders(clip)
    if "clip_l" not in encoders:
        raise TokenError(
            "The connected CLIP has no CLIP-L text encoder",
            "The bridge needs the text features of CLIP-L, with which sounds are aligned",
            "Use a checkpoint of SD1.x or SDXL, or set `bridge` to none",
        )
    require_aligned(aligned_with, encoder)
    if not can_bridge(clip, width, aligned_with):
        raise TokenError(
            f"The sound's feature has {width} values",
            f"The bridge of this CLIP takes features of {encoders['clip_l'].embedding_size} values",
            "Use an audio encoder that is aligned with this text encoder, or set `bridge` to none",
        )


def bridge_of(clip, limit: int = 0, kind: str = "ridge", own: AlignedText | None = None) -> Bridge:
    """The bridge of a CLIP, read from the cache or made. `limit` words (0: all); `kind` ridge or phi.

    `own`: the texts that the sounds lie among, where those are an encoder's own; else CLIP-L's, which the CLIP must have.
    """
    vocabulary, error = patched_digest(clip.patcher), SOUND_ERROR
    if own is not None:
        vocabulary, error = f"{vocabulary}-{own.digest}", FOREIGN_ERROR
    path = _path(vocabulary, limit, kind, error)
    found = Bridge.load(path, vocabulary) if path.is_file() else None
    if found is None:
        found = _make(clip, limit, kind, vocabulary, own, error)
        try:
            found.save(path)
        except TokenError as error:
            log.warning("%s The bridge is used now, and computed again the next time.", error)
    return found


def _make(clip, limit: int, kind: str, vocabulary: str, own: AlignedText | None, error: float) -> Bridge:
    words, ids = whole_words(clip, limit)
    features = None if own is None else kept_features(own, tuple(words))
    clip.load_model()
    rows = {
        tokenizer.embedding_key: vocabulary_rows(clip, name).cpu()[ids]
        for name, tokenizer in sub_tokenizers(clip).items()
    }
    features = _features(clip, ids) if features is None else features
    if kind == "ridge":
        return fit(features, rows, vocabulary=vocabulary, error=error)
    bar = comfy.utils.ProgressBar(1)

    def on_epoch(done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    with gradients():
        ordinary = {key: r.clone() for key, r in rows.items()}
        return fit_phi(features.clone(), ordinary, vocabulary=vocabulary, error=error, on_epoch=on_epoch)


def _path(vocabulary: str, limit: int, kind: str, error: float) -> Path:
    name = f"{vocabulary}-{limit or 'all'}-{kind}-{error:g}.safetensors"
    return Path(folder_paths.get_user_directory()) / "aai_bridges" / name


@torch.no_grad()
def _features(clip, ids: list[int]) -> Tensor:
    """CLIP-L's text feature of each word of one token: (N, D) float32."""
    return end_states(clip, [[number] for number in ids])


def origin(bridge: Bridge, limit: int) -> dict[str, str]:
    """What a token's metadata says about the bridge of its sound."""
    return {"bridge": bridge.kind, "bridge_vocabulary": bridge.vocabulary, "bridge_words": str(limit)}


def bridge_of_token(token: AudioToken, clip, own: AlignedText | None = None) -> Bridge:
    """The bridge that the sound of a token came over; raises `TokenError` if that was the bridge of another CLIP.

    Another sound that crosses it must be aligned as well: `require_aligned`, or be of the encoder with the texts `own`.
    """
    known = token.metadata
    if own is None:
        require_bridge(clip, token.audio_feature.shape[-1], CLIP_L)  # the token's own sound was, or it had no bridge
    kind, limit = str(known.get("bridge", "ridge")), str(known.get("bridge_words", 0))
    # Both become part of a file's name, and the word may be a stranger's file.
    if kind not in KINDS or not COUNT.fullmatch(limit):
        raise TokenError(
            f"This word names the bridge {kind!r} of {limit!r} words",
            f"A bridge is {' or '.join(KINDS)}, of a number of words",
            "Train the word again, or ask who made it for another copy",
        )
    bridge = bridge_of(clip, int(limit), kind, own)
    if known.get("bridge_vocabulary", bridge.vocabulary) != bridge.vocabulary:
        raise TokenError(
            "The sound in this word went through the bridge of another CLIP",
            f"It was {known['bridge_vocabulary']}, the connected one is {bridge.vocabulary}",
            "Connect the CLIP that the word was made with, with the same LoRAs",
        )
    return bridge


def word_from_sound(
    clip,
    feature: Tensor,
    gain: float,
    limit: int = 0,
    kind: str = "ridge",
    centre: Tensor | None = None,
    nearest: float = 0.0,
    aligned_with: str = "",
    encoder: str = "",
    own: AlignedText | None = None,
) -> tuple[AudioToken, str]:
    """The untrained word of a unit feature (D,), and the ordinary words nearest to it.

    `centre` as `Bridge.carry` takes it, `nearest` as the share of `towards_words`; `aligned_with` and the name of its
    `encoder` as an `AudioFeature` has them; `own` as `bridge_of` takes it. Raises `TokenError` for a sound that no bridge
    may carry.
    """
    if own is None:
        require_bridge(clip, feature.shape[-1], aligned_with, encoder)
    bridge = bridge_of(clip, limit, kind, own)
    directions = bridge.carry(feature, centre)
    scales, heard = {}, []
    words, ids = whole_words(clip)
    for name, tokenizer in sub_tokenizers(clip).items():
        key, rows = tokenizer.embedding_key, vocabulary_rows(clip, name).cpu()
        scales[key] = float(rows.norm(dim=-1).median())
        directions[key] = towards_words(directions[key], rows[ids], nearest)
        near = ", ".join(f"{word} {value:.2f}" for word, value in nearest_words(directions[key], rows[ids], words))
        heard.append(f"{key}, nearest words: {near}")
    heard += bridge.text()
    if own is not None:
        heard.append(f"Mapped from {own.name}: for what has no name. `bridge` labels is surer for what has one.")
    elif centre is None:
        heard.append(
            "The encoder's file has no mean of sounds; the mean of words was used (`align centre` writes one)."
        )
    adapters = {key: torch.zeros(1, direction.shape[-1]) for key, direction in directions.items()}
    ordinary = feature.detach().clone().float().cpu()
    token = AudioToken(ordinary, adapters, scales, gain, origin(bridge, limit), directions=directions)
    return token, "\n".join(heard)
