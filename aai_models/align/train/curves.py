"""The log of a training as a picture: the terms of the loss above, held-out figures below."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

from ...draw import GRID, GROUND, INK, font

COLOURS = ((24, 90, 169), (214, 80, 40), (60, 140, 70), (140, 70, 150), (150, 120, 30), (90, 90, 90))
ABOVE = {"loss": "Eq. 1", "text": "L_c(A, T)", "picture": "L_c(A, V)", "momentum": "L_t"}
BELOW = {"heldout_a2t": "A->T", "heldout_a2v_r1": "A->V R@1", "heldout_v2a_r1": "V->A R@1"}
WIDTH, HEIGHT, MARGIN = 760, 280, 56

Series = dict[str, list[tuple[float, float]]]


def read_log(path: Path) -> tuple[Series, Series]:
    """Steps and values of `log.jsonl`, by name: of the loss (percent aside), and of what was held out."""
    above: Series = {}
    below: Series = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        figures = json.loads(line)
        for names, series in ((ABOVE, above), (BELOW, below)):
            for key, name in names.items():
                if key in figures:
                    series.setdefault(name, []).append((figures["step"], figures[key]))
    return above, below


def draw_curves(above: Series, below: Series, title: str = "") -> Image.Image:
    """Both panels, one over the other."""
    picture = Image.new("RGB", (WIDTH, 2 * HEIGHT + 30), GROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 8), title, fill=INK, font=font(15))
    _panel(draw, above, 30, "loss")
    _panel(draw, below, 30 + HEIGHT, "held out, %")
    return picture


def _panel(draw: ImageDraw.ImageDraw, series: Series, top: int, what: str) -> None:
    letters = font(13)
    left, right, upper, lower = MARGIN, WIDTH - 150, top + 22, top + HEIGHT - 26
    points = [point for line in series.values() for point in line]
    draw.text((left, top + 2), what, fill=INK, font=letters)
    if not points:
        draw.text((left + 12, upper + 8), "nothing", fill=INK, font=letters)
        return
    last = max(step for step, _ in points)
    low, high = min(0.0, *(round(v, 6) for _, v in points)), max(v for _, v in points)  # a KL of -1e-9 is 0
    high = max(high, low + 1e-6)

    def place(step: float, value: float) -> tuple[float, float]:
        return left + (right - left) * step / max(last, 1), lower - (lower - upper) * (value - low) / (high - low)

    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        y = place(0, value)[1]
        draw.line((left, y, right, y), fill=GRID)
        draw.text((6, y - 8), f"{value:.3g}", fill=INK, font=letters)
    draw.text((left, lower + 6), "step 0", fill=INK, font=letters)
    draw.text((right - 30, lower + 6), f"{last:g}", fill=INK, font=letters)
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        if len(line) > 1:
            draw.line([place(*point) for point in line], fill=colour, width=2)
        draw.text((right + 12, upper + 20 * number), name, fill=colour, font=letters)
