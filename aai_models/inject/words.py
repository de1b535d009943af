"""The words <A*>, <A1>, <A2>, ... of a prompt."""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache

from ..errors import EditError, TokenError

WORD = re.compile(
    r"<A(\*|\d{1,9})>"
)  # a longer number is none that anybody connected, and Python reads no endless ones


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


# Misspellings of <A*>: other letters and brackets, blanks, a weight inside.
OPENING, CLOSING = "[<\uff1c\u3008\u27e8\u2039\u00ab]", "[>\uff1e\u3009\u27e9\u203a\u00bb]"
NEAR = re.compile(rf"{OPENING}\s*[aA\uff21]\s*[*\uff0a\d]*\s*(?::[\d.]*)?\s*{CLOSING}")
INSIDE_EMBEDDING = re.compile(r"embedding:\s*" + WORD.pattern)


def near_misses(text: str) -> list[str]:
    """What looks like an audio word but is not one: `<a*>`, `<A *>`, `<A*:1.2>`, other brackets."""
    return [found for found in dict.fromkeys(NEAR.findall(text)) if not WORD.fullmatch(found)]


END_OF_WORD = "</w>"
QUOTES = str.maketrans(
    "\u2018\u2019\u201c\u201d", "''\"\""
)  # some hosts' tokenizers write straight ones, others do not
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")  # writing without blanks between words


@lru_cache(maxsize=1)
def _bytes_of_letters() -> dict[str, int]:
    """How the byte-level vocabulary of CLIP spells each byte: printable ones as themselves, others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


def normalise(text: str) -> str:
    """As CLIP reads a text: composed, lower case, straight quotes."""
    return unicodedata.normalize("NFC", text).lower().translate(QUOTES)


class WrittenWords:
    """The characters of an encoded prompt, without blanks, and the columns at which each stands.

    texts: what each column spells in CLIP's vocabulary ("storm</w>"), "" for specials, padding and vectors; columns: those
    of each audio word, which is one letter of its own here.
    """

    def __init__(self, texts: tuple[str, ...], columns: dict[int, tuple[int, ...]]):
        self._letters: list[str] = []
        self._columns: list[tuple[int, ...]] = []
        self._ends: set[int] = set()  # a word ends before the character of this number
        owners = {column: number for number, places in columns.items() for column in places}
        run: list[int] = []  # of a word that has begun; it may go on in the next chunk, behind EOS and BOS
        for column, text in enumerate(texts):
            if text:
                run.append(column)
            if text.endswith(END_OF_WORD) or (run and column in owners):
                self._read(run, texts)
                run = []
            if column in owners:
                self._write_audio(owners[column], column, owners.get(column - 1) != owners[column])
        self._read(run, texts)

    def _read(self, run: list[int], texts: tuple[str, ...]) -> None:
        """A word of CLIP's: its bytes may be parts of one letter, which then stands at several columns."""
        spelled = [(byte, column) for column in run for byte in _spelled_bytes(texts[column])]
        at = 0
        for letter in bytes(byte for byte, _ in spelled).decode("utf-8", errors="replace"):
            size = len(letter.encode("utf-8"))
            places = tuple(dict.fromkeys(column for _, column in spelled[at : at + size]))
            for part in normalise(letter):
                self._letters.append(part)
                self._columns.append(places)
            at += size
        self._ends.add(len(self._letters))

    def _write_audio(self, number: int, column: int, first: bool) -> None:
        if not first and self._columns:  # another vector of the same word
            self._columns[-1] = (*self._columns[-1], column)
            return
        self._letters.append(_audio_letter(number))
        self._columns.append((column,))
        self._ends.add(len(self._letters))

    def find(self, phrase: str) -> list[int]:
        """Columns of all places where the phrase is written, in order; empty if it is not.

        The phrase may carry the prompt's own brackets, weights and escapes.
        """
        for candidate in dict.fromkeys((phrase, _unescaped(phrase), _unweighted(phrase))):
            columns = self._find(normalise(replace_words(candidate, _audio_letter)).split())
            if columns:
                return columns
        return []

    def _find(self, parts: list[str]) -> list[int]:
        wanted = "".join(parts)
        written = "".join(self._letters)
        found: set[int] = set()
        at = written.find(wanted) if wanted else -1
        while at >= 0:
            if self._is_whole(at, parts):
                found.update(column for places in self._columns[at : at + len(wanted)] for column in places)
            at = written.find(wanted, at + 1)
        return sorted(found)

    def _is_whole(self, at: int, parts: list[str]) -> bool:
        """Whether the parts of a phrase begin and end where words do, and no word ends inside of one."""
        if not self._is_edge(at):
            return False
        for part in parts:
            inner = range(at + 1, at + len(part))
            if any(self._parts_words(place) for place in inner):
                return False
            at += len(part)
            if not self._is_edge(at):
                return False
        return True

    def _is_edge(self, place: int) -> bool:
        """Whether a word can begin or end before a character: anywhere but between two letters of one word."""
        if place in (0, len(self._letters)) or place in self._ends:
            return True
        before, after = self._letters[place - 1], self._letters[place]
        return not (before.isalpha() and after.isalpha()) or _is_unspaced(before) or _is_unspaced(after)

    def _parts_words(self, place: int) -> bool:
        """Whether a blank must have stood before a character: between letters that CLIP took for two words."""
        before, after = self._letters[place - 1], self._letters[place]
        if place not in self._ends or not (before.isalpha() and after.isalpha()) or _is_unspaced(after):
            return False
        return "'" not in self._letters[max(0, place - 3) : place]  # CLIP also parts after 's, 'll and the like


def _audio_letter(number: int) -> str:
    """A letter that no text holds (Unicode's private use), in place of an audio word."""
    return chr(0xF0000 + min(number, 0xFFFD))


def _spelled_bytes(text: str) -> bytes:
    known = _bytes_of_letters()
    return bytes(known[letter] for letter in text.removesuffix(END_OF_WORD) if letter in known)


def _is_unspaced(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(UNSPACED)


def _unescaped(phrase: str) -> str:
    return re.sub(r"\\([()])", r"\1", phrase)


def _unweighted(phrase: str) -> str:
    """Without the host's brackets and weights: `(storm:1.3)` -> `storm`."""
    kept = phrase.replace(r"\(", "\0").replace(r"\)", "\1")
    kept = re.sub(r":\s*[\d.]+\s*(?=\))", "", kept).replace("(", "").replace(")", "")
    return kept.replace("\0", "(").replace("\1", ")")


NUMBER = r"[+]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
NUMBERS = re.compile(rf"\s*({NUMBER})\s*(?:-\s*({NUMBER})\s*)?")


def parse_word_values(text: str, what: str) -> dict[str, tuple[float, ...]]:
    """Lines such as `beach: 0.5` or `the red car: 0.2-0.8` -> {phrase: numbers}; raises `EditError`."""
    values = {}
    for line in filter(None, (line.strip() for line in re.split(r"[\n;]", text))):
        phrase, colon, written = line.rpartition(":")
        match = NUMBERS.fullmatch(written)
        parsed = tuple(float(number) for number in match.groups() if number) if match else ()
        if not colon or not phrase.strip() or not parsed or not all(map(math.isfinite, parsed)):
            raise EditError(
                f"{what} holds the line {line!r}",
                "Each line is a word, a colon and a number of 0 or more, as in `beach: 0.5`",
                "Correct it",
            )
        values[phrase.strip()] = parsed
    return values
