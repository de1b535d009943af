"""Random shapes: things that nobody has a name for, each fixed by its number."""

from __future__ import annotations

import math

import numpy as np

from .canvas import INK, WHITE, Canvas, Colour, dark, light

COUNT = 240  # shapes that training sees


def shape_name(number: int) -> str:
    return f"shape{number:03d}"


def shape_number(name: str) -> int | None:
    """The number of a shape; None for any other name."""
    return int(name[5:]) if name.startswith("shape") and name[5:].isdigit() else None


def draw_shape(c: Canvas, k: Colour, number: int) -> None:
    """Body, limbs, head pieces, marks and eyes, chosen by the number; coloured like any thing."""
    rng = np.random.default_rng(7_000_003 + number)
    tones = (k, dark(k, 0.3), light(k, 0.5), INK, WHITE, (242, 140, 40), (128, 132, 140))
    for _ in range(int(rng.integers(0, 4))):
        _limb(c, tones[int(rng.integers(1, 7))], rng)
    _body(c, k, rng)
    for _ in range(int(rng.integers(1, 4))):
        _part(c, tones[int(rng.integers(1, 7))], rng)
    if rng.random() < 0.4:
        x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.1)
        for s in (-0.14, 0.14):
            c.disc(x + s, y, 0.11, WHITE)
            c.disc(x + s, y, 0.05, INK)


def _body(c: Canvas, k: Colour, rng) -> None:
    kind, w, h = int(rng.integers(5)), rng.uniform(0.35, 0.85), rng.uniform(0.35, 0.85)
    if kind == 0:
        c.disc(0, 0, w, k, h)
    elif kind == 1:
        c.box(-w, -h, w, h, k)
    elif kind == 2:
        c.poly([(-w, h), (0, -h), (w, h)], k)
    elif kind == 3:
        n, inner = int(rng.integers(4, 8)), rng.uniform(0.4, 0.8)
        radii = [w if i % 2 == 0 else w * inner for i in range(2 * n)]
        c.poly([(r * math.cos(math.pi * i / n), r * math.sin(math.pi * i / n)) for i, r in enumerate(radii)], k)
    else:
        c.disc(-w * 0.5, h * 0.3, w * 0.6, k)
        c.disc(w * 0.4, -h * 0.3, w * 0.5, k)


def _limb(c: Canvas, tone: Colour, rng) -> None:
    angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 0.98)
    tip = (length * math.cos(angle), length * math.sin(angle))
    width, both = rng.uniform(0.08, 0.2), rng.random() < 0.6
    for s in (1, -1) if both else (1,):
        c.line([(0, 0), (s * tip[0], tip[1])], width, tone)
        if width > 0.14:
            c.disc(s * tip[0], tip[1], width, tone)


def _part(c: Canvas, tone: Colour, rng) -> None:
    x, y, r, kind = rng.uniform(-0.5, 0.5), rng.uniform(-0.7, 0.7), rng.uniform(0.1, 0.3), int(rng.integers(4))
    if kind == 0:
        c.disc(x, y, r, tone)
    elif kind == 1:
        c.box(x - r, y - r * 0.5, x + r, y + r * 0.5, tone)
    elif kind == 2:
        c.poly([(x - r, y), (x, y - r * 1.5), (x + r, y)], tone)
    else:
        for i in (-1, 0, 1):
            c.box(-0.5, y + i * 0.16 - 0.04, 0.5, y + i * 0.16 + 0.04, tone)
