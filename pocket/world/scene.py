"""A scene: what stands where, in which colour, place and style; and its drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ...aai_models.errors import PocketError
from .canvas import PAPER, SIDE, Canvas
from .grammar import draw_shape, shape_name, shape_number
from .names import COLOURS, NATURE, PLACES, STYLES, THINGS
from .places import BACKGROUNDS
from .styles import in_style, is_sketched, style_number
from .things import DRAWINGS

DOT_CELLS = 24  # dots of a poster along a side


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture."""

    thing: str | None = None  # a name in THINGS, or shapeNNN; None: the place alone
    place: str = "meadow"
    colour: str = "red"
    style: str = "flat"
    loudness: float = 0.5  # 0..1: density or height of rain, fire, waves, wind and thunder; size of all others
    x: float = 0.5  # the thing's centre, in shares of the picture
    y: float = 0.58
    mirrored: bool = False
    second: str | None = None  # another thing, right of the first
    second_colour: str = "blue"
    seed: int = 0  # of the small accidents: clouds, windows, the hands of a clock


def check(scene: Scene) -> Scene:
    """The scene itself; raises `PocketError` for a name that the world does not know."""
    for kind, name, known in (
        ("place", scene.place, PLACES),
        ("colour", scene.colour, COLOURS),
        ("colour", scene.second_colour, COLOURS),
        ("style", scene.style, STYLES),
    ):
        if name not in known and not (kind == "style" and style_number(name) is not None):
            raise PocketError(f"There is no {kind} {name!r}", f"There are {', '.join(known)}", "Choose one of them")
    for thing in (scene.thing, scene.second):
        if thing is not None and thing not in DRAWINGS and shape_number(thing) is None:
            raise PocketError(f"There is no thing {thing!r}", f"There are {', '.join(THINGS)}", "Choose one of them")
    if not math.isfinite(scene.loudness):
        raise PocketError(f"The loudness is {scene.loudness}", "It must be a number from 0 to 1", "Correct it")
    return scene


def half_side(thing: str, loudness: float) -> float:
    """Half the side of the thing's box, as a share of the picture."""
    return 0.36 if thing in NATURE else 0.24 + 0.14 * loudness


def draw(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The picture (128, 128, 3) uint8 and the mask of its things (128, 128) bool. The same scene gives the same bits."""
    check(scene)
    rng = np.random.default_rng(scene.seed)
    number = style_number(scene.style)
    canvas = Canvas(sketch=scene.style == "sketch" if number is None else is_sketched(number))
    BACKGROUNDS[scene.place](canvas, rng)
    canvas.masked = True
    if scene.second is None:
        _draw_thing(canvas, scene, scene.thing, scene.colour, scene.x, 1.0, rng)
    else:
        _draw_thing(canvas, scene, scene.thing, scene.colour, 0.28, 0.72, rng)
        _draw_thing(canvas, scene, scene.second, scene.second_colour, 0.72, 0.72, rng)
    picture = canvas.image.reduce(canvas.side // SIDE)
    mask = np.asarray(canvas.mask.reduce(canvas.side // SIDE)) > 127
    picture = _styled(picture, scene.style) if number is None else in_style(picture, number)
    return np.asarray(picture), mask


def _draw_thing(canvas: Canvas, scene: Scene, thing: str | None, colour: str, x: float, share: float, rng) -> None:
    if thing is None:
        return
    canvas.frame(x, scene.y, share * half_side(thing, scene.loudness), scene.mirrored)
    if thing in DRAWINGS:
        DRAWINGS[thing](canvas, COLOURS[colour], scene.loudness, rng)
    else:
        draw_shape(canvas, COLOURS[colour], shape_number(thing))


def _styled(picture: Image.Image, style: str) -> Image.Image:
    if style == "mosaic":
        return picture.reduce(4).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    if style == "dots":
        colours = picture.resize((DOT_CELLS, DOT_CELLS), Image.Resampling.BOX)
        big = np.asarray(colours.resize((SIDE, SIDE), Image.Resampling.NEAREST), dtype=np.float32)
        return Image.fromarray((big * _dots() + np.array(PAPER, np.float32) * (1 - _dots())).round().astype(np.uint8))
    return picture


_DOTS: list[np.ndarray] = []


def _dots() -> np.ndarray:
    """How much of each pixel a dot covers, (128, 128, 1)."""
    if not _DOTS:
        cell = SIDE / DOT_CELLS
        place = (np.arange(SIDE) + 0.5) % cell - cell / 2
        distance = np.hypot(place[:, None], place[None, :])
        _DOTS.append(np.clip(0.5 + (0.46 * cell - distance), 0, 1)[..., None].astype(np.float32))
    return _DOTS[0]


def random_scene(rng: np.random.Generator, things: list[str], second: float = 0.0, empty: float = 0.0) -> Scene:
    """A scene with one of `things`; with the given chances a second thing, or none at all."""
    kind = rng.random()
    thing = None if kind < empty else str(rng.choice(things))
    other = str(rng.choice(things)) if empty <= kind < empty + second else None
    return Scene(
        thing=thing,
        place=str(rng.choice(list(PLACES))),
        colour=str(rng.choice(list(COLOURS))),
        style=str(rng.choice(list(STYLES), p=(0.4, 0.2, 0.2, 0.2))),
        loudness=float(rng.random()),
        x=float(rng.uniform(0.3, 0.7)),
        y=float(rng.uniform(0.5, 0.64)),
        mirrored=bool(rng.random() < 0.5),
        second=None if other == thing else other,
        second_colour=str(rng.choice(list(COLOURS))),
        seed=int(rng.integers(2**31)),
    )


def plain_scene(thing: str, **changes) -> Scene:
    """A scene of a known form with some changes."""
    return replace(Scene(thing=thing), **changes)


__all__ = ["Scene", "check", "draw", "plain_scene", "random_scene", "shape_name"]
