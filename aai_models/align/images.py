"""What the image tower sees: 224 x 224, normalised as ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


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
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("RGB")


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
