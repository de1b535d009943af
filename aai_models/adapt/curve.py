"""The curve of a training, drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ..draw import GRID, GROUND, INK, font

STEPS, LOOKS, CHOSEN = (176, 190, 210), (24, 90, 169), (214, 80, 40)


def loss_curve(
    losses: list[float], looks: list[tuple[int, float]], chosen: int, total: int, width: int = 512, height: int = 320
) -> Image.Image:
    """Loss of each step (pale), held-out loss (dark), and a mark at the chosen step; `total` steps across."""
    picture = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = 48, 16, width - 12, height - 28
    values = [v for v in [*losses, *(value for _, value in looks)] if np.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = max(high, low + 1e-6)

    def place(step: float, value: float) -> tuple[float, float]:
        value = min(max(value, low), high)
        share = (value - low) / (high - low)
        return left + (right - left) * step / max(total, 1), bottom - (bottom - top) * share

    letters = font(12)
    for value in (low, (low + high) / 2, high):
        y = place(0, value)[1]
        draw.line((left, y, right, y), fill=GRID)
        draw.text((4, y - 7), f"{value:.3f}", fill=INK, font=letters)
    draw.text((left, bottom + 6), f"step {len(losses)} of {total}, best {chosen}", fill=INK, font=letters)
    points = [place(step, value) for step, value in enumerate(losses, start=1) if np.isfinite(value)]
    marks = [place(step, value) for step, value in looks if np.isfinite(value)]
    if len(points) > 1:
        draw.line(points, fill=STEPS)
    if len(marks) > 1:
        draw.line(marks, fill=LOOKS, width=3)
    for step, value in looks:
        if step == chosen and np.isfinite(value):
            x, y = place(step, value)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline=CHOSEN, width=3)
    return picture
