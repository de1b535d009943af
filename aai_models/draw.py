"""Pictures for people: text, axes, curves, heat and contact sheets, on Pillow, which ComfyUI brings."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
GROUND, GRID, INK = (250, 250, 250), (216, 216, 216), (60, 60, 60)
# Dark to bright, even in lightness: anchors between which colours are interpolated.
HEAT = np.array([[8, 6, 34], [66, 22, 104], [146, 40, 98], [220, 86, 58], [252, 168, 60], [252, 250, 190]], float)


def font(size: int) -> Font:
    """Pillow's own scalable font; any Pillow without it falls back to its bitmap one."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def heat(values: np.ndarray) -> np.ndarray:
    """(H, W) in 0..1 -> colours (H, W, 3) uint8."""
    place = np.clip(np.nan_to_num(values), 0.0, 1.0) * (len(HEAT) - 1)
    low = np.minimum(place.astype(int), len(HEAT) - 2)
    share = (place - low)[..., None]
    return (HEAT[low] * (1 - share) + HEAT[low + 1] * share).round().astype(np.uint8)


def fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The whole picture inside a tile, centred on the ground colour."""
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    tile = Image.new("RGB", (width, height), GROUND)
    tile.paste(
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), ((width - size[0]) // 2, (height - size[1]) // 2)
    )
    return tile


def shorten(text: str, width: int, letters: Font) -> str:
    """Text that fits into `width` pixels, its middle left out where it does not."""
    text = text.encode("utf-8", "replace").decode()
    if letters.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 0, -1):
        short = text[: (keep + 1) // 2] + "..." + text[len(text) - keep // 2 :]
        if letters.getlength(short) <= width:
            return short
    return ""


def contact_sheet(pictures: list[Image.Image], captions: list[str], columns: int = 4, side: int = 256) -> Image.Image:
    """Pictures in rows, each whole, with a caption below."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    letters, line, gap = font(15), 24, 8
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + line + gap) + gap), GROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = gap + index % columns * (side + gap), gap + index // columns * (side + line + gap)
        sheet.paste(fit(picture, side, side), (x, y))
        draw.text((x, y + side + 3), shorten(caption, side, letters), fill=INK, font=letters)
    return sheet
