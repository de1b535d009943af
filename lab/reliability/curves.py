"""The picture of a long run: memory and processor time over its steps, on Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...aai_models.draw import GRID, GROUND, INK, font
from .soak import Soak

WIDE, HIGH, LEFT, TOP, GAP = 300, 130, 64, 46, 26
DOT, LINE = (120, 160, 205), (170, 51, 51)


def draw(soak: Soak, path: Path) -> None:
    """A column for each part: memory above, processor time below, each value a dot and the fitted line over them."""
    sheet = Image.new("RGB", ((WIDE + LEFT + GAP) * len(soak.parts), TOP + 2 * (HIGH + 62)), GROUND)
    ink = ImageDraw.Draw(sheet)
    for column, part in enumerate(soak.parts):
        left = LEFT + column * (WIDE + LEFT + GAP)
        ink.text((left, 10), f"{len(part.seconds)} {part.name}", fill=INK, font=font(18))
        series = (
            ("MB", part.memory, part.memory_slope),
            ("processor time, % of its kind", part.relative_work(), part.work_slope),
        )
        for row, (what, values, line) in enumerate(series):
            top = TOP + row * (HIGH + 62)
            _axes(ink, left, top, what, f"{line} per 1000", values, line)
    sheet.save(path)


def _axes(ink, left: int, top: int, what: str, told: str, values: list[float], line) -> None:
    shown = np.asarray(values, float)
    if not len(shown):
        return
    high = max(float(np.percentile(shown, 99)), line.start) * 1.1
    ink.text((left, top), f"{what}   {told}", fill=INK, font=font(13))
    top += 20
    ink.rectangle([left, top, left + WIDE, top + HIGH], outline=GRID)
    for share in (0.0, 0.5, 1.0):
        y = top + HIGH * (1 - share)
        ink.line([left, y, left + WIDE, y], fill=GRID)
        ink.text((left - 8, y), f"{high * share:.0f}", fill=INK, font=font(12), anchor="rm")
    x = left + WIDE * np.arange(len(shown)) / max(len(shown) - 1, 1)
    y = top + HIGH * (1 - np.minimum(shown / high, 1.0))
    for place in zip(x, y, strict=True):
        ink.ellipse([place[0] - 1, place[1] - 1, place[0] + 1, place[1] + 1], fill=DOT)
    begins = len(shown) - line.count
    if np.isfinite(line.noise):
        ends = line.start + line.per_thousand * line.count / 1000
        places = [(x[begins], line.start), (x[-1], ends)]
        ink.line([(px, top + HIGH * (1 - min(max(v / high, 0), 1))) for px, v in places], fill=LINE, width=2)
    ink.text((left + WIDE, top + HIGH + 4), str(len(shown)), fill=INK, font=font(12), anchor="ra")
