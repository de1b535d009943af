"""Scenes and sounds of the pocket world in the host's IMAGE, MASK and AUDIO."""

from __future__ import annotations

import numpy as np
import torch

from ....aai_models.errors import PocketError
from ....pocket.world.names import STYLES
from ....pocket.world.scene import Scene, draw
from ....pocket.world.sounds import RATE, mixture, synthesise
from ..base.pocket_menus import NOTHING

STYLE_OF = {noun: style for style, noun in STYLES.items()}  # the word of a prompt -> the style's name


def draw_scene(
    thing: str, place: str, colour: str, style: str, loudness: float, side: str, second: str, seed: int, count: int
):
    """(pictures (B, 128, 128, 3), masks (B, 128, 128)); picture i has the seed `seed` + i. Raises `PocketError`."""
    if style not in STYLE_OF:
        raise PocketError(f"There is no style {style!r}", f"There are {', '.join(STYLE_OF)}", "Choose one of them")
    drawn = [
        draw(_scene(thing, place, colour, STYLE_OF[style], loudness, side, second, seed + i)) for i in range(count)
    ]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])).float() / 255
    return pictures, torch.from_numpy(np.stack([mask for _, mask in drawn])).float()


def _scene(thing, place, colour, style, loudness, side, second, seed) -> Scene:
    rng = np.random.default_rng((seed, 17))
    x = {"left": rng.uniform(0.3, 0.4), "right": rng.uniform(0.6, 0.7)}.get(side, rng.uniform(0.4, 0.6))
    first, other = (None if name == NOTHING else name for name in (thing, second))
    if first is None:
        first, other = other, None
    return Scene(
        thing=first,
        place=place,
        colour=colour,
        style=style,
        loudness=loudness,
        x=float(x),
        y=float(rng.uniform(0.52, 0.62)),
        mirrored=bool(rng.random() < 0.5),
        second=other,
        second_colour=colour,
        seed=seed,
    )


def sound_of(thing: str, loudness: float, seed: int, seconds: float, second: str = NOTHING) -> dict:
    """The host's AUDIO (1, 1, T) at 16 kHz, of one thing or of two at once; raises `PocketError`."""
    wave = (
        synthesise(thing, loudness, seed, seconds)
        if second == NOTHING
        else mixture(thing, second, loudness, seed, seconds)
    )
    return {"waveform": torch.from_numpy(wave)[None, None], "sample_rate": RATE}
