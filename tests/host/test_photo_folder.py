"""Photos of a folder as people have them: what is left out, upright whatever EXIF says, float and AVIF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aai_pack.aai_models.align.images import open_picture
from aai_pack.nodes.host.inject.photo_folder import find_photos
from aai_pack.tests.host.test_stylize_cases import photo
from PIL import Image, features


def test_what_a_folder_holds(tmp_path):
    for name in ("10", "9", "1", "sub/2", "sub/11", ".thumbnails/x"):
        photo(tmp_path / f"{name}.png", 0)
    for name in ("._1.png", "a.HEIC", "b.heic", "notes.txt", "Thumbs", ".DS_Store"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    found = find_photos(tmp_path, tmp_path / "out")
    names = [path.relative_to(tmp_path).as_posix() for path in found.photos]
    assert names == ["1.png", "9.png", "10.png", "sub/2.png", "sub/11.png"]
    lines = "\n".join(found.lines())
    assert "left out: 1 without a suffix, 2 .heic, 1 .txt. Save photos among them as JPG or PNG" in lines
    assert "1 hidden" in lines and "nowhere.png cannot be opened" in lines


def corner(path: Path) -> tuple[int, ...]:
    picture = open_picture(path)
    assert picture.size == (16, 32)
    return tuple(int(np.asarray(picture.crop(box)).mean() > 128) for box in ((0, 0, 4, 4), (12, 28, 16, 32)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "mpo", "jfif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(tmp_path, suffix, orientation):
    """Orientation 1 to 8 of EXIF in every format that carries it; the bright corner comes to the upper left."""
    upright = np.zeros((32, 16, 3), dtype=np.uint8)
    upright[:8, :8] = 255
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 3),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    path, kind = tmp_path / f"a.{suffix}", {"jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    more = {"save_all": True, "append_images": [picture]} if suffix == "mpo" else {}
    picture.save(path, format=kind, exif=exif, **more)
    assert corner(path) == (1, 0)


def test_float_pictures_are_not_black(tmp_path):
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = np.asarray((ramp * 255).round(), dtype=np.uint8)
    for name, values in {"unit": ramp, "bytes": ramp * 255, "words": ramp * 65535}.items():
        Image.fromarray(values).save(tmp_path / f"{name}.tiff")
        shown = np.asarray(open_picture(tmp_path / f"{name}.tiff"))[..., 0]
        assert np.abs(shown.astype(int) - expected).max() <= 1, name
    bright = ramp.copy()
    bright[0, 0], bright[0, 1] = np.nan, 3.0
    Image.fromarray(bright).save(tmp_path / "bright.tiff")
    shown = np.asarray(open_picture(tmp_path / "bright.tiff"))[..., 0]
    assert shown[0, 1] == 255 and np.abs(shown[1:].astype(int) - expected[1:]).max() <= 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read(tmp_path):
    photo(tmp_path / "a.avif", 0)
    assert [path.name for path in find_photos(tmp_path, tmp_path / "out").photos] == ["a.avif"]
    assert open_picture(tmp_path / "a.avif").size == (16, 16)
