"""The words <A*>, <A1>, <A2>, ... of a prompt."""

from __future__ import annotations

import re

from ..errors import EditError, TokenError

WORD = re.compile(r"<A(\*|\d+)>")


def find_words(text: str) -> list[int]:
    """Numbers of the audio tokens that a prompt asks for, in order of first use; <A*> is number 1."""
    numbers = (1 if name == "*" else int(name) for name in WORD.findall(text))
    return list(dict.fromkeys(numbers))


def replace_words(text: str, spell) -> str:
    """Write `spell(number)` in place of each audio word."""
    return WORD.sub(lambda match: spell(1 if match[1] == "*" else int(match[1])), text)


def require_words(text: str, connected: set[int]) -> list[int]:
    """The audio words of a prompt; raises `TokenError` if one of them has no sound connected."""
    numbers = find_words(text)
    for number in numbers:
        if number not in connected:
            known = ", ".join("<A*>" if n == 1 else f"<A{n}>" for n in sorted(connected)) or "none"
            raise TokenError(
                f"The prompt uses <A{number}>, but no audio token {number} is connected",
                f"Connected are: {known}",
                f"Connect an audio token to the input of that number, or write {known.split(', ')[0]}"
                if connected
                else "Connect an audio token",
            )
    return numbers


PIECE = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_+")
END_OF_WORD = "</w>"


def phrase_columns(texts: list[str], columns: dict[int, list[int]], phrase: str) -> list[int]:
    """Columns of an encoded prompt at which a word or phrase stands, all its occurrences; empty if it does not occur.

    texts: what each column spells in CLIP's vocabulary ("storm</w>"), "" for specials, padding and audio words;
    columns: those of each audio word, for phrases such as "<A*>".
    """
    found: list[int] = []
    for number in find_words(phrase):
        found += columns.get(number, [])
    rest = WORD.sub(" ", phrase)
    wanted = [piece.lower() for piece in PIECE.findall(rest)]
    if wanted and found:
        return []
    words = _words(texts)
    for start in range(len(words) - len(wanted) + 1 if wanted else 0):
        if [word for word, _ in words[start : start + len(wanted)]] == wanted:
            found += [column for _, places in words[start : start + len(wanted)] for column in places]
    return sorted(set(found))


def _words(texts: list[str]) -> list[tuple[str, list[int]]]:
    """Whole words with their columns, in order."""
    words, spelled, places = [], "", []
    for column, text in enumerate(texts):
        if not text:
            spelled, places = "", []
            continue
        spelled, places = spelled + text.removesuffix(END_OF_WORD), [*places, column]
        if text.endswith(END_OF_WORD):
            words.append((spelled, places))
            spelled, places = "", []
    return words


def parse_word_values(text: str, what: str) -> dict[str, tuple[float, ...]]:
    """Lines such as `beach: 0.5` or `the red car: 0.2-0.8` -> {phrase: numbers}; raises `EditError`."""
    values = {}
    for line in filter(None, (line.strip() for line in re.split(r"[\n;]", text))):
        phrase, colon, numbers = line.rpartition(":")
        try:
            parsed = tuple(float(number) for number in numbers.split("-"))
        except ValueError:
            parsed = ()
        if not colon or not phrase.strip() or not parsed:
            raise EditError(
                f"{what} holds the line {line!r}",
                "Each line is a word, a colon and a number, as in `beach: 0.5`",
                "Correct it",
            )
        values[phrase.strip()] = parsed
    return values
