"""The sounds of a batch: connected words, saved words and recordings, each under a name of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ....aai_models.adapt.token import AudioToken
from ....aai_models.errors import EditError, TokenError
from ..adapt import embeddings
from .sound_files import SoundFile

CONNECTED = "sound-"  # and a number: names of connected words


@dataclass(frozen=True)
class Unmade:
    """A connected word that is not made for a plan."""

    def identity(self) -> str:
        return "not made"


@dataclass(frozen=True)
class SavedWord:
    """A word from models/embeddings."""

    name: str
    token: AudioToken


Word = AudioToken | SavedWord | SoundFile | Unmade


def name_words(tokens: list, names: list[str], recordings: dict[str, SoundFile]) -> dict[str, Word]:
    """Connected words by number (None: not made yet), recordings and saved words by their names, each once; a name that
    is taken gets a number. Raises `EditError` for no word, and for a saved one that is not there or is none."""
    words: dict[str, Word] = {}
    for number, token in enumerate(tokens, start=1):
        words[f"{CONNECTED}{number}"] = Unmade() if token is None else token
    for name, recording in recordings.items():
        words[_free(name, words)] = recording
    for name in dict.fromkeys(names):
        plain = name.removeprefix("embedding:").strip()
        words[_free(plain.rpartition("/")[2], words)] = _saved(plain)
    if not words:
        raise EditError(
            "There is no sound",
            "The batch needs at least one sound",
            "Connect `audio_token`, or fill in `saved_words` or `sounds`",
        )
    return words


def _free(name: str, words: dict[str, Word]) -> str:
    free, number = name, 2
    while free in words:
        free, number = f"{name}-{number}", number + 1
    return free


def _saved(name: str) -> SavedWord:
    listed = embeddings.find(name)
    if listed is None:
        raise EditError(
            f"There is no saved word {name!r}",
            "`saved_words` must be names of files in models/embeddings, separated by commas",
            "Correct the name",
        )
    try:
        return SavedWord(listed, embeddings.load(listed))
    except TokenError as error:
        raise EditError(f"The saved word {name!r} cannot be read", error.found, error.do) from None


def token_of(word: Word) -> AudioToken:
    """The word itself; a recording is encoded first."""
    if isinstance(word, SoundFile):
        return word.word()
    return word.token if isinstance(word, SavedWord) else word


def identity_of(word: Word) -> str:
    """Changes with the word; encodes nothing."""
    if isinstance(word, (SoundFile, Unmade)):
        return word.identity()
    digest = hashlib.sha256()
    for key, rows in sorted(token_of(word).vectors.items()):
        values = rows.detach().float().cpu().contiguous().numpy().tobytes()
        digest.update(f"{key} {tuple(rows.shape)}".encode() + values)
    return digest.hexdigest()


def origin_of(word: Word) -> str:
    """Where a sound is from, whatever it holds now: another sound of the same name is another picture."""
    if isinstance(word, SoundFile):
        return str(word.path)
    if isinstance(word, SavedWord):
        return f"embedding {word.name}"
    return identity_of(word)
