"""The words <A*>, <A1>, <A2>, ... of a prompt."""

from __future__ import annotations

import re

from ..errors import TokenError

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
