"""What a sound is heard as: labels by the texts of its encoder, and their rows in the connected CLIP."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ....aai_models.adapt.label_list import LabelList, read_list, read_words
from ....aai_models.adapt.labels import Heard, among, read, tempered
from ....aai_models.align.aligned_text import AlignedText, HasAlignedText, Shares
from ....aai_models.errors import TokenError, TrainingError
from ..base.prompt_words import sub_tokenizers
from ..base.types import AudioFeature
from ..base.vocabulary import vocabulary_rows, word_rows
from .bridge import can_bridge
from .clip_texts import ClipTexts
from .kept_texts import kept_features


@dataclass(frozen=True)
class Listening:
    """How a sound is listened to."""

    labels: str = ""  # what it may be, a line each; empty: the built-in list
    temperature: float = 1.0  # below 1 the first label takes more of the share
    words: str = ""  # what it is, whatever is heard

    @property
    def list(self) -> LabelList:
        return read_list(self.labels)

    def require(self) -> None:
        """Raise `TokenError` for what cannot be read, before anything is loaded."""
        _ = self.list
        if self.words.strip():
            read_words(self.words)
        if not 0 < self.temperature < 1000:
            raise TokenError(
                f"The temperature is {self.temperature}", "It must be a positive number", "1 is the encoder's own"
            )


def texts_of(clip, sound: AudioFeature) -> AlignedText | None:
    """The texts among which a sound lies: its encoder's own, or CLIP-L's where it was aligned with those; else None.

    Raises `CheckpointError` where the encoder has texts that cannot be read.
    """
    if isinstance(sound.ear, HasAlignedText):
        return sound.ear.aligned_text(clip)
    return ClipTexts(clip) if can_bridge(clip, sound.vectors.shape[-1], sound.aligned_with) else None


def has_labels(clip, sound: AudioFeature) -> bool:
    """Whether a sound can be heard as labels with this CLIP, as far as can be told without reading its encoder's texts."""
    known = bool(sound.labels) or isinstance(sound.ear, HasAlignedText)
    return known or can_bridge(clip, sound.vectors.shape[-1], sound.aligned_with)


def listen(clip, sound: AudioFeature, how: Listening) -> list[Heard]:
    """What each sound of a batch is heard as. Raises `TokenError` for one that no texts and no labels belong to.

    Shows progress, can be cancelled; the list is encoded once and kept.
    """
    how.require()
    labels = how.list
    text = texts_of(clip, sound)
    if text is None:
        return [_tagged(shares, labels, sound.encoder, how) for shares in _own_labels(sound)]
    features = kept_features(text, labels.sentences)
    return [
        replace(read(vector, features, labels.names, text.scale, how.temperature, text.name), notes=labels.notes)
        for vector in sound.vectors
    ]


def _own_labels(sound: AudioFeature) -> tuple[Shares, ...]:
    if sound.labels:
        return sound.labels
    raise TokenError(
        f"{sound.encoder or 'The encoder of this sound'} knows no words for what it hears",
        "Labels need an encoder with a text side or with labels of its own (CLAP, PE-AV, AudioToken, or imagebind_huge.pth "
        "with its text part), or one that is aligned with the connected CLIP (ImageBind with that of SD2.x)",
        "Use such an encoder, write into `words` what the sound is, or learn a word from pictures: Find Pictures for Sound "
        "and Train Audio Token",
    )


def _tagged(shares: Shares, labels: LabelList, encoder: str, how: Listening) -> Heard:
    """What a tagger heard: its own labels, or those of the artist's list that it knows."""
    notes = labels.notes
    if labels.own:
        kept = among(shares, labels.names)
        if not kept:
            raise TokenError(
                f"{encoder} knows none of the {len(labels.names)} labels in `labels`",
                f"It knows {len(shares)} labels, among them {', '.join(name for name, _ in shares[:5])}",
                "Use its labels, or write into `words` what the sound is",
            )
        if len(kept) < len(labels.names):
            notes = (*notes, f"{encoder} knows {len(kept)} of the {len(labels.names)} labels in `labels`.")
        shares = kept
    return tempered(Heard(shares, f"{encoder}'s own labels", notes), how.temperature)


def written(how: Listening) -> Heard | None:
    """What a person says that the sound is; None where `words` is empty."""
    return Heard(read_words(how.words), written=True) if how.words.strip() else None


def label_rows(clip, drawn: Shares) -> dict[str, dict[str, Tensor]]:
    """label -> key of the text encoder -> rows of its tokens (m, width). Raises `TokenError` where it has no token."""
    try:
        return {name: word_rows(clip, name) for name, _ in drawn}
    except TrainingError as error:
        raise TokenError(error.found, "Labels are drawn by their tokens", "Write another word for it") from None


def word_norms(clip) -> dict[str, float]:
    """The median norm of the vocabulary of each text encoder."""
    return {
        tokenizer.embedding_key: float(vocabulary_rows(clip, name).norm(dim=-1).median())
        for name, tokenizer in sub_tokenizers(clip).items()
    }
