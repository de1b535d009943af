"""Prompts for the paper's three uses, and the windows that suit them: presets in one place."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EditError
from .words import find_words, replace_words


@dataclass(frozen=True)
class Use:
    """One way to use a word; `{scene}` is what the artist writes."""

    source: str  # the prompt of the picture that is changed
    target: str  # the prompt with the word
    cross_end: float  # percent until which the words' places follow the source
    self_end: float  # percent until which shapes follow it


USES = {
    "generate": Use("{scene}", "{scene} of <A*>", 0.0, 0.0),
    "edit": Use("{scene}", "{scene} with <A*>", 0.8, 0.4),
    "stylise": Use("{scene}", "{scene} in the style of <A*>", 0.6, 0.25),
}


def build_prompts(use: str, scene: str) -> tuple[str, str, float, float]:
    """(source prompt, target prompt, cross_end, self_end). A scene that places the word itself is taken as it is.

    Raises `EditError` for an unknown use or an empty scene.
    """
    if use not in USES:
        raise EditError(f"The use is {use!r}", f"It is one of {', '.join(USES)}", "Choose one")
    scene = " ".join(scene.split())
    if not scene:
        raise EditError(
            "The scene is empty", "A few words that say what the picture shows", "Write for instance `a beach`"
        )
    preset = USES[use]
    if find_words(scene):
        plain = " ".join(replace_words(scene, lambda number: "").split())
        return plain, scene, preset.cross_end, preset.self_end
    return preset.source.format(scene=scene), preset.target.format(scene=scene), preset.cross_end, preset.self_end
