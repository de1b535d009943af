"""Prompts for the paper's three uses, and the windows that suit them: presets in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import EditError
from .words import find_words, replace_words


@dataclass(frozen=True)
class Use:
    """One way to use a word; `{scene}` is what the artist writes."""

    source: str  # the prompt of the picture that is changed
    target: str  # the prompt with the word
    cross_end: float  # percent of the run until which words keep the source's layout
    self_end: float  # percent of the run until which shapes are copied from it


USES = {
    "generate": Use("{scene}", "{scene} of <A*>", 0.0, 0.0),
    "edit": Use("{scene}", "{scene} with <A*>", 0.8, 0.4),
    "stylise": Use("{scene}", "{scene} in the style of <A*>", 0.6, 0.25),
}


WORD_MARK = "\0"
# Brackets, with a weight or without, that hold nothing but words: `(<A*>:1.3)`.
EMPTY_BRACKETS = re.compile(r"\\?\(\s*\0(?:[\s,]*\0)*\s*(?::\s*[\d.]*\s*)?\\?\)")


def without_words(scene: str) -> str:
    """A scene without its audio words, nor the brackets, weights and commas that were theirs."""
    marked, before = replace_words(scene, lambda number: WORD_MARK), None
    while marked != before:
        before, marked = marked, EMPTY_BRACKETS.sub(WORD_MARK, marked)
    if WORD_MARK not in marked:
        return scene
    marked = re.sub(r"^[\s,\0]*\0[\s,\0]*", "", marked)  # at the beginning, with the comma behind it
    marked = re.sub(r"\s*,[\s,]*\0[\s\0]*(?=,|$)", "", marked)  # between commas, or behind the last
    return re.sub(r"\s+([,.;:])", r"\1", " ".join(marked.replace(WORD_MARK, " ").split()))


def build_prompts(use: str, scene: str) -> tuple[str, str, float, float]:
    """(source prompt, target prompt, cross_end, self_end). A scene that places the word itself is taken as it is.

    Raises `EditError` for an unknown use or an empty scene.
    """
    if use not in USES:
        raise EditError(f"The use is {use!r}", f"It must be one of {', '.join(USES)}", "Choose one")
    scene = " ".join(scene.split())
    if not scene:
        raise EditError(
            "The scene is empty", "It needs a few words that say what the picture shows", "Write for instance `a beach`"
        )
    preset = USES[use]
    if find_words(scene):
        return without_words(scene), scene, preset.cross_end, preset.self_end
    return preset.source.format(scene=scene), preset.target.format(scene=scene), preset.cross_end, preset.self_end
