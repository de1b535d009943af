"""What a person would say about a scene, as words and as ids of CLIP's vocabulary."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from .names import NAMED, PLACES, STYLES
from .scene import Scene

START, END = 49406, 49407
LONGEST = 24  # tokens that a prompt can carry, start and end included
# Words without a meaning in this world: in training they stand between the others and change nothing.
FILLERS = ("beautiful", "old", "nice", "detailed", "lovely", "famous")
# Stand for a thing and for a style that have no word: their rows come from elsewhere.
SLOT, STYLE_SLOT = "*", "~"
SLOT_ID, STYLE_SLOT_ID = -1, -2
SLOTS = {SLOT: [SLOT_ID], STYLE_SLOT: [STYLE_SLOT_ID]}


@cache
def vocabulary() -> dict[str, list[int]]:
    """Word -> its tokens of CLIP's byte-pair vocabulary."""
    return json.loads((Path(__file__).parent / "vocabulary.json").read_text(encoding="utf-8"))


def word_of(thing: str) -> str:
    """The word of a named thing, else the slot."""
    return thing if thing in NAMED else SLOT


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption that tells some of what is there, as people do; now and then nothing at all. At most `LONGEST` tokens."""
    while True:
        text = _caption(scene, rng)
        if len(token_ids(text)) <= LONGEST:
            return text


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    if rng.random() < 0.1:
        return ""
    place = PLACES[scene.place] if rng.random() < 0.65 else None
    noun, end = _style(scene, rng)
    if scene.thing is None:
        return f"{noun}{PLACES[scene.place][1]}{end}"
    told = _thing(scene.thing, scene.colour, scene, rng)
    if scene.second is not None:
        told += f" and {_thing(scene.second, scene.second_colour, None, rng)}"
    elif rng.random() < 0.12:
        told += " on the left" if scene.x < 0.5 else " on the right"
    if place is None:
        return f"{noun}{told}{end}"
    if rng.random() < 0.25:
        return f"{noun}{place[1]} with {told}{end}"
    return f"{noun}{told} {place[0]}{end}"


def _style(scene: Scene, rng) -> tuple[str, str]:
    """How a caption begins and how it ends."""
    noun = STYLES.get(scene.style, STYLE_SLOT)
    kind = rng.random()
    if noun == STYLE_SLOT:
        kind = 0.3 + 0.45 * kind  # told in any case
    if kind < 0.6:
        return f"a {noun} of ", ""
    if kind < 0.75:
        return ("a picture of ", "")[kind < 0.65], f" in the style of a {noun}"
    return ("a picture of ", "")[kind < 0.88], ""


def _thing(thing: str, colour: str, scene: Scene | None, rng) -> str:
    words = ["a"]
    if rng.random() < 0.1:
        words.append(str(rng.choice(FILLERS)))
    if scene is not None and rng.random() < 0.3:
        words.append("big" if scene.loudness > 0.5 else "small")
    if rng.random() < 0.65:
        words.append(colour)
    generic = thing in NAMED and rng.random() < 0.04
    return " ".join([*words, "thing" if generic else word_of(thing)])


def token_ids(text: str) -> list[int]:
    """Ids of a caption with start and end, as CLIP's tokenizer gives them; slots are below 0. Raises KeyError."""
    words = vocabulary()
    ids = [number for word in text.split() for number in (SLOTS.get(word) or words[word])]
    return [START, *ids, END]


def describe(scene: Scene) -> str:
    """The whole truth about a scene: style, colour, thing and place."""
    thing = "" if scene.thing is None else f"a {scene.colour} {word_of(scene.thing)} {PLACES[scene.place][0]}"
    return f"a {STYLES[scene.style]} of {thing or PLACES[scene.place][1]}"
