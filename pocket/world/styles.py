"""Random styles: ways of drawing that nobody has a name for, each fixed by its number.

They stay within what the pocket autoencoder can draw: coarse cells, soft screens, tints and frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from .canvas import INK, PAPER, SIDE

COUNT = 160  # styles that training sees
SCREENS = {"none": 0.25, "blocks": 0.3, "discs": 0.2, "rows": 0.07, "columns": 0.08, "soft": 0.1}  # how often


def style_name(number: int) -> str:
    return f"style{number:03d}"


def style_number(name: str) -> int | None:
    """The number of a random style; None for any other name."""
    return int(name[5:]) if name.startswith("style") and name[5:].isdigit() else None


def is_sketched(number: int) -> bool:
    """Whether the style's pictures are outlines over a pale wash before anything else is done to them."""
    return np.random.default_rng(9_000_011 + number).random() < 0.35


def in_style(picture: Image.Image, number: int) -> Image.Image:
    """A drawing (128, 128) in a random style: its tones, the screen that it is printed through, and its frame."""
    rng = np.random.default_rng(9_000_013 + number)
    picture = _screened(_toned(picture, rng), rng)
    if rng.random() < 0.3:
        picture = picture.copy()
        colour = (INK, PAPER, tuple(rng.integers(40, 220, 3).tolist()))[int(rng.integers(3))]
        ImageDraw.Draw(picture).rectangle((0, 0, SIDE - 1, SIDE - 1), outline=colour, width=int(rng.integers(5, 13)))
    return picture


def _toned(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.4, 1.4))
    picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.55, 1.2))
    if rng.random() < 0.2:
        picture = ImageOps.posterize(picture, 2)
    if rng.random() < 0.5:
        tint = Image.new("RGB", picture.size, tuple(rng.integers(30, 255, 3).tolist()))
        picture = Image.blend(picture, tint, rng.uniform(0.1, 0.4))
    return picture


def _screened(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    kind = str(rng.choice(list(SCREENS), p=list(SCREENS.values())))
    width, height = (int(n) for n in rng.integers(4, 10, 2))
    strength, ground = rng.uniform(0.35, 0.8), (PAPER, INK)[int(rng.random() < 0.3)]
    if kind == "none":
        return picture
    if kind == "soft":
        return picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.2, 2.5)))
    if kind == "discs" or rng.random() < 0.5:
        height = width
    coarse = picture.resize((SIDE // width, SIDE // height), Image.Resampling.BOX)
    coarse = coarse.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    if kind == "blocks":
        return coarse
    if kind != "discs":
        coarse, strength = picture, strength / 2
    behind = Image.blend(coarse, Image.new("RGB", picture.size, ground), strength)
    return Image.composite(coarse, behind, _screen(kind, width))


@cache
def _screen(kind: str, cell: int) -> Image.Image:
    """How much of each pixel a screen lets through, with cells of SIDE / (SIDE // cell) pixels."""
    size = SIDE / (SIDE // cell)
    place = np.abs((np.arange(SIDE) + 0.5) % size / size - 0.5) * 2  # 0 in a cell's middle, 1 at its edge
    across, down = np.broadcast_arrays(place[None], place[:, None])
    distance = {"discs": np.hypot(across, down) / 0.92, "rows": down / 0.6, "columns": across / 0.6}[kind]
    return Image.fromarray((np.clip(0.5 + (1 - distance) * size / 2, 0, 1) * 255).round().astype(np.uint8))
