"""The image tower's input: 224 x 224, normalised as ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IF_PILLOW_CAN = (".avif", ".heic", ".heif", ".jp2")  # by a library that it was built with, or a plugin of another pack
BRIGHTEST_UNIT = 16.0  # highlights of a float picture whose white is 1; one of 0..255 with no more than that is black


def picture_suffixes() -> tuple[str, ...]:
    """Suffixes of the pictures that can be read here and now."""
    known = Image.registered_extensions()
    return (*SUFFIXES, *(suffix for suffix in IF_PILLOW_CAN if known.get(suffix) in Image.OPEN))


def image_input(picture: Image.Image) -> Tensor:
    """A picture of any mode and size -> (3, 224, 224): shorter side to 224 (bicubic), centre crop, ImageNet statistics."""
    picture = upright_rgb(picture)
    scale = SIZE / min(picture.size)
    width, height = (max(SIZE, round(side * scale)) for side in picture.size)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    picture = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + SIZE, top + SIZE))
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1).contiguous()


def upright_rgb(picture: Image.Image) -> Image.Image:
    """As a camera's viewer shows it: turned by its EXIF orientation, transparency over white, RGB of 8 bits."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and int(np.asarray(picture).max()) > 255):
        # 16 bits of grey, of which Pillow's own conversion would keep the darkest 255 values and make the rest white.
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
    if picture.mode == "F":
        picture = _from_floats(np.asarray(picture))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("RGB")


def _from_floats(values: np.ndarray) -> Image.Image:
    """Grey of floating point, (H, W): 0..1 with some overshoot, or the range of 8 or 16 bits."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    most = values.max(initial=0.0)
    scale = 255.0 if most <= BRIGHTEST_UNIT else 1.0 if most <= 255.0 else 1 / 257
    return Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))


def open_picture(path: str | Path, side: int | None = None) -> Image.Image:
    """Read a picture upright and in RGB. `side`: at least that many pixels are needed; JPEGs are then read smaller.

    Raises `OSError` or `ValueError` for what is no picture, also for one so large that it may be an attack.
    """
    try:
        with Image.open(path) as picture:
            if side:
                picture.draft("RGB", (2 * side, 2 * side))
            picture.load()
            return upright_rgb(picture)
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error
