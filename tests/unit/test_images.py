"""Pictures as the image tower takes them: every mode and size, upright, and no bombs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aai_pack.aai_models.align.images import image_input, open_picture, upright_rgb
from PIL import Image


def test_sixteen_bits_of_grey_keep_their_tones(tmp_path):
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    shown = np.asarray(open_picture(tmp_path / "deep.png"))
    assert np.array_equal(shown[..., 0].flatten(), np.arange(256))
    wide = Image.fromarray(ramp.astype(np.int32), "I")
    assert np.array_equal(np.asarray(upright_rgb(wide))[..., 1].flatten(), np.arange(256))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "F", "I;16"])
def test_every_mode(mode):
    tensor = image_input(Image.new(mode, (50, 30)))
    assert tensor.shape == (3, 224, 224) and torch.isfinite(tensor).all()


@pytest.mark.parametrize("size", [(1, 1), (224, 224), (5000, 3), (223, 700)])
def test_every_size(size):
    assert image_input(Image.new("RGB", size)).shape == (3, 224, 224)


def test_statistics_and_crop():
    picture = np.zeros((224, 448, 3), np.uint8)
    picture[:, 112:336] = 255
    tensor = image_input(Image.fromarray(picture))
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        assert torch.allclose(tensor[channel], torch.tensor((1 - mean) / std))


def test_a_turned_photo_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").size == (40, 60)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (300, 200), (220, 20, 20)).save(tmp_path / "a.png")
    with pytest.raises(OSError, match="bomb"):
        open_picture(tmp_path / "a.png")
