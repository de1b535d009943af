"""A list of labels, and words with shares, as an artist writes them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from ..errors import TokenError
from ..shares import Shares
from .sounding_things import SOUNDING_THINGS

MAX_LABELS = 5000
LONGEST = 200  # letters of a label
EMPHASIS = re.compile(r"^[(\[{]+(.+?)(:\s*\d*\.?\d+)?[)\]}]+$")  # (dog:1.2), [dog]: how prompts weigh a word
BRACKETS = re.compile(r"[()\[\]{}<>]")
BEFORE = re.compile(r"^(?:(?:it is|it's|this is)\s+)?(?:(?:an?|the|some)\s+)?(?=\S)", re.IGNORECASE)
WITH_SHARE = re.compile(
    r"^(.*[^\s:])[\s:]+(\d*\.\d+|[01]|\d+(?:\.\d+)?\s*%)$"
)  # "wolf 0.7", "wind: 30 %"; not "boeing 747"
WRONG_ENCODING = ("\ufffd", "\0", "ï»¿", "Ã¤", "Ã¶", "Ã¼", "Ã©")  # UTF-8, or UTF-16, that was read as another


@dataclass(frozen=True)
class LabelList:
    """Labels that a sound is compared with."""

    names: tuple[str, ...]  # what is drawn
    sentences: tuple[str, ...]  # what the encoder's text side reads in its place
    notes: tuple[str, ...] = ()  # what was left out of the artist's list
    own: bool = False  # whether it is the artist's

    @property
    def digest(self) -> str:
        """A hash of the list."""
        return hashlib.sha256(json.dumps([self.names, self.sentences]).encode()).hexdigest()[:16]


def read_list(text: str) -> LabelList:
    """The list of a text: a label a line, `clock: a ticking clock` where the encoder shall read more than the name.

    Without any text the pack's own. Brackets, articles and doubles are left out. Raises `TokenError` for a text in
    another encoding, for more than `MAX_LABELS`, and for one without any word.
    """
    if not text.strip():
        return LabelList(SOUNDING_THINGS, SOUNDING_THINGS)
    _require_readable(text)
    found: dict[str, tuple[str, str]] = {}
    doubled = empty = 0
    for line in text.removeprefix("\ufeff").splitlines():
        if not line.strip():
            continue
        name, sentence = _label(line)
        if not _has_word(name):
            empty += 1
        elif name.casefold() in found:
            doubled += 1
        else:
            found[name.casefold()] = (name, sentence)
    if not found:
        raise TokenError(
            f"The list of labels holds no word in {text.strip()[:60]!r}",
            "`labels` holds what a sound may be, a line each",
            "Write for instance dog, and wolf in the next line, or leave it empty for the built-in list",
        )
    if len(found) > MAX_LABELS:
        raise TokenError(
            f"The list of labels holds {len(found)}",
            f"It may hold {MAX_LABELS}",
            "Keep what sounds: silent words make what is heard less certain",
        )
    counts = ((doubled, "were there twice"), (empty, "hold no word"))
    notes = [f"{count} line{'s' * (count != 1)} of `labels` {what}." for count, what in counts if count]
    if len(found) == 1:
        notes.append("`labels` holds one thing, so every sound is heard as that.")
    names, sentences = zip(*found.values(), strict=True)
    return LabelList(names, sentences, tuple(notes), own=True)


def read_words(text: str) -> Shares:
    """Words with shares as in "wolf 0.7, wind 0.3", in their order; without figures they share alike what is left.

    Raises `TokenError` where there is no word.
    """
    _require_readable(text)
    parts = [part.strip() for part in re.split(r"[,\n;]", text) if part.strip()]
    words = [_word(part) for part in parts]
    if not words or not all(_has_word(name) for name, _ in words):
        raise TokenError(
            f"There is no word in {text.strip()[:60]!r}",
            "`words` holds ordinary words, with a share if there are several",
            "Write for instance: wolf 0.7, wind 0.3",
        )
    given = sum(share for _, share in words if share is not None)
    left = sum(share is None for _, share in words)
    rest = max(0.0, 1 - given) / left if left else 0.0
    if left and not rest:  # the figures use everything up: a word without one counts as their mean
        rest = given / (len(words) - left)
    weights = [(name, rest if share is None else share) for name, share in words]
    total = sum(weight for _, weight in weights)
    if not total > 0:
        raise TokenError(
            f"All shares in {text.strip()[:60]!r} are 0", "At least one word needs a share", "Write: wolf 0.7, wind 0.3"
        )
    return tuple((name, weight / total) for name, weight in weights if weight > 0)


def _word(part: str) -> tuple[str, float | None]:
    if found := WITH_SHARE.match(part):
        figure = found[2].strip()
        return _plain(found[1]), float(figure.rstrip("% ")) / 100 if figure.endswith("%") else float(figure)
    return _plain(part), None


def _label(line: str) -> tuple[str, str]:
    """(name, sentence) of a line."""
    inner = EMPHASIS.match(line.strip())
    name, _, sentence = (inner[1] if inner else line.strip()).partition(":")
    name = _plain(name)
    return name, " ".join(BRACKETS.sub(" ", sentence).split())[:LONGEST] or name


def _plain(text: str) -> str:
    """A label without brackets and article: it stands where a prompt has its own."""
    inner = EMPHASIS.match(text.strip())
    plain = " ".join(BRACKETS.sub(" ", inner[1] if inner else text).split())[:LONGEST].rstrip(".")
    return BEFORE.sub("", plain)


def _has_word(name: str) -> bool:
    return any(letter.isalnum() for letter in name)


def _require_readable(text: str) -> None:
    if any(sign in text for sign in WRONG_ENCODING):
        raise TokenError(
            "The list holds characters of a file that was read in the wrong encoding",
            "Text must be UTF-8",
            "Save the file as UTF-8, or write the words into the node",
        )
