"""Pictures of sounds, and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.overview import draw_overview
from aai_pack.aai_models.draw import contact_sheet, heat
from aai_pack.tests import sounds
from PIL import Image


def panel(picture: Image.Image, top: float, bottom: float) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[int(top * len(pixels)) : int(bottom * len(pixels)), 80:-20].astype(int)


@pytest.mark.parametrize(
    ("shape", "rate"),
    [((2, 8, 100), 48000), ((1, 1, 1), 1), ((1, 2, 300), 384000), ((1, 1, 700 * 1000), 1000), ((1, 1, 399), 16000)],
)
def test_any_sound_is_drawn(shape, rate):
    pictures = draw_overview(sounds.noise(*shape), rate, 500, 300)
    assert [p.size for p in pictures] == [(500, 300)] * shape[0]


def test_silence_is_drawn():
    (picture,) = draw_overview(torch.zeros(1, 1, 16000), 16000)
    assert picture.size == (1024, 720)


def test_a_low_tone_lies_below_a_high_one():
    def height(frequency):
        (picture,) = draw_overview(sounds.tone(2.0, 16000, frequency)[None], 16000)
        spectrogram = panel(picture, 0.62, 0.93).sum(axis=(1, 2))
        return int(spectrogram.argmax())

    assert height(6000.0) < height(1000.0) < height(200.0)


def test_the_loud_half_is_drawn_loud():
    sound = torch.cat([sounds.noise(1, 32000, scale=0.003), sounds.noise(1, 32000, scale=0.3)], dim=-1)[None]
    (picture,) = draw_overview(sound, 16000)
    loudness = panel(picture, 0.33, 0.54)
    line = (abs(loudness - (170, 60, 50)).sum(axis=2) < 60).nonzero()
    left, right = line[0][line[1] < 350], line[0][line[1] > 550]
    assert left.size and right.size and left.mean() > right.mean() + 20


def test_what_is_no_sound_is_refused():
    with pytest.raises(AudioError):
        draw_overview(torch.full((1, 1, 9), float("nan")), 16000)


def test_heat_goes_from_dark_to_bright_and_bears_anything():
    ramp = heat(np.linspace(0, 1, 50)[None]).astype(int).sum(axis=2)[0]
    assert (np.diff(ramp) > 0).all()
    assert heat(np.array([[np.nan, -5.0, 9.0, np.inf]])).shape == (1, 4, 3)


def test_contact_sheet():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9), (200, 200, 0)]
    pictures = [Image.new("RGB", (30 + 50 * i, 60), c) for i, c in enumerate(colours)]
    sheet = contact_sheet(pictures, ["a very long caption " * 9, "\udce9 odd", "", "x", "y"], columns=4, side=100)
    assert sheet.size == (4 * 108 + 8, 2 * 132 + 8)
    for index, colour in enumerate(colours):
        assert sheet.getpixel((8 + index % 4 * 108 + 50, 8 + index // 4 * 132 + 50)) == colour
    assert contact_sheet([], []).size[0] > 0
