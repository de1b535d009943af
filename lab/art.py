"""The icon and the banner of the pack's page in ComfyUI's registry: `python -m lab art` writes them into `assets`.

A sound of the pocket world becomes its loudness in bars, and stands beside what it sounds of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..aai_models.draw import font, heat
from ..pocket.world import scene, sounds

ICON = 384  # pixels; the registry takes up to 400, square
BANNER = (1260, 540)  # 21:9
NIGHT, LIGHT = (14, 12, 40), (252, 250, 240)
COLOURS = 64  # of the palette, so that the files stay small
THINGS = (
    ("rooster", "meadow", "red"),
    ("bell", "snow", "yellow"),
    ("frog", "beach", "green"),
    ("train", "desert", "blue"),
)


def bars(thing: str, count: int) -> np.ndarray:
    """Loudness of a thing's sound in `count` parts, (count,) in 0..1."""
    sound = sounds.synthesise(thing, 0.7, 1, 2.56)
    parts = np.array_split(np.abs(sound), count)
    loudness = np.array([np.sqrt((part**2).mean()) for part in parts])
    return (loudness / loudness.max()) ** 0.6


def draw_bars(picture: Image.Image, box: tuple[int, int, int, int], levels: np.ndarray, share: float = 0.6) -> None:
    """Bars in the middle of a box (left, top, right, bottom), each in the colour of its height."""
    draw, (left, top, right, bottom) = ImageDraw.Draw(picture), box
    step, middle = (right - left) / len(levels), (top + bottom) / 2
    for index, (level, colour) in enumerate(zip(levels, heat(0.25 + 0.65 * levels[None])[0], strict=True)):
        x, half = left + step * (index + 0.5), max(step * share / 2, level * (bottom - top) / 2)
        place = (x - step * share / 2, middle - half, x + step * share / 2, middle + half)
        draw.rounded_rectangle(place, radius=step * share / 2, fill=tuple(int(c) for c in colour))


def icon() -> Image.Image:
    """A* above the bars of a sound."""
    big = Image.new("RGB", (2 * ICON, 2 * ICON), NIGHT)
    draw_bars(big, (60, 470, 2 * ICON - 60, 700), bars("rooster", 15))
    ImageDraw.Draw(big).text((ICON, 250), "A*", fill=LIGHT, font=font(380), anchor="mm")
    return big.resize((ICON, ICON), Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    """A sound's bars, the word, and four things drawn."""
    height = BANNER[1]
    picture = Image.new("RGB", BANNER, NIGHT)
    draw = ImageDraw.Draw(picture)
    draw_bars(picture, (50, 110, 450, 350), bars("rooster", 25))
    draw.text((560, 230), "A*", fill=LIGHT, font=font(120), anchor="mm")
    side, gap = 235, 10
    for index, (thing, place, colour) in enumerate(THINGS):
        drawn, _ = scene.draw(scene.plain_scene(thing, place=place, colour=colour))
        tile = Image.fromarray(drawn).resize((side, side), Image.Resampling.NEAREST)
        picture.paste(tile, (735 + (index % 2) * (side + gap), 30 + (index // 2) * (side + gap)))
    draw.text((50, height - 110), "Align, Adapt, Inject", fill=LIGHT, font=font(54), anchor="lm")
    draw.text((50, height - 58), "sound-guided images for ComfyUI", fill=LIGHT, font=font(27), anchor="lm")
    return picture


def main(folder: Path) -> None:
    """Write icon.png and banner.png."""
    for name, picture in (("icon", icon()), ("banner", banner())):
        small = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.save(folder / f"{name}.png", optimize=True)
