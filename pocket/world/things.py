"""How each thing looks. A drawing takes the canvas (box -1..1), its colour, its loudness 0..1 and a random generator."""

from __future__ import annotations

import math

from .canvas import INK, WHITE, Canvas, Colour, dark, light

ORANGE, BROWN, GREY, STEEL = (242, 140, 40), (112, 72, 44), (128, 132, 140), (176, 182, 190)
SKIN, PINK = (250, 208, 172), (240, 140, 160)


def _eye(c: Canvas, x: float, y: float, r: float = 0.1) -> None:
    c.disc(x, y, r, WHITE)
    c.disc(x + 0.02, y, r * 0.5, INK)


def dog(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.line([(0.62, -0.05), (0.95, -0.5)], 0.16, k)
    for x in (-0.42, -0.2, 0.32, 0.54):
        c.box(x - 0.09, 0.2, x + 0.09, 0.95, dark(k, 0.15))
    c.poly([(-0.55, -0.2), (0.6, -0.15), (0.68, 0.1), (0.62, 0.4), (-0.5, 0.42)], k)
    c.poly([(-0.6, -0.75), (-0.15, -0.72), (-0.12, -0.1), (-0.55, 0.0), (-0.98, -0.1), (-1.0, -0.38)], k)
    c.poly([(-0.3, -0.85), (-0.05, -0.72), (-0.02, -0.12), (-0.25, -0.2)], dark(k, 0.4))
    c.disc(-0.95, -0.36, 0.11, INK)
    _eye(c, -0.52, -0.5, 0.1)


def rain(c: Canvas, k: Colour, loud: float, rng) -> None:
    for x, y, r in ((-0.45, -0.55, 0.36), (0.0, -0.68, 0.44), (0.45, -0.55, 0.36)):
        c.disc(x, y, r, GREY)
    c.box(-0.75, -0.6, 0.75, -0.3, GREY)
    count = 5 + round(loud * 14)
    for i in range(count):
        x = -0.68 + 1.4 * ((i * 0.7549 + 0.1) % 1.0)
        y = -0.08 + 0.85 * ((i * 0.5698 + 0.4) % 1.0)
        c.line([(x, y - 0.13), (x - 0.1, y + 0.15)], 0.1, k)


def waves(c: Canvas, k: Colour, loud: float, rng) -> None:
    height = 0.14 + 0.34 * loud
    for row, (y, share) in enumerate(((-0.25, 0.5), (0.15, 0.25), (0.55, 0.0))):
        crest, shift = light(k, share), row * 0.33
        points, foam = [(-0.8, 0.98)], []
        for i in range(25):
            x = -1 + i / 12
            up = abs(math.sin(math.pi * 1.5 * (x + shift)))
            points.append((x, y - height * up * up))
            foam.append((x, y - height * up * up))
        c.poly([*points, (0.8, 0.98)], crest)
        c.line(foam, 0.07, WHITE)


def baby(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.poly([(-0.5, 0.98), (-0.42, 0.3), (0.0, 0.15), (0.42, 0.3), (0.5, 0.98)], k)
    c.line([(-0.4, 0.45), (-0.85, 0.1)], 0.2, k)
    c.line([(0.4, 0.45), (0.85, 0.1)], 0.2, k)
    c.disc(-0.88, 0.05, 0.13, SKIN)
    c.disc(0.88, 0.05, 0.13, SKIN)
    c.disc(0.0, -0.35, 0.58, SKIN, 0.55)
    c.line([(0.0, -0.9), (0.1, -0.98), (0.18, -0.86)], 0.08, BROWN)
    c.line([(-0.36, -0.5), (-0.12, -0.42)], 0.09, INK)
    c.line([(0.36, -0.5), (0.12, -0.42)], 0.09, INK)
    c.disc(0.0, -0.08, 0.17 + 0.04 * loud, (150, 30, 40), 0.13 + 0.08 * loud)
    for x in (-0.3, 0.3):
        c.disc(x, -0.2, 0.08, (90, 170, 240), 0.13)


def clock(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.disc(0.0, 0.0, 0.95, k)
    c.disc(0.0, 0.0, 0.72, WHITE)
    for i in range(12):
        a = math.pi * i / 6
        c.disc(0.58 * math.cos(a), 0.58 * math.sin(a), 0.05 if i % 3 else 0.085, INK)
    a, b = rng.uniform(0, 2 * math.pi, 2)
    c.line([(0, 0), (0.5 * math.cos(a), 0.5 * math.sin(a))], 0.09, INK)
    c.line([(0, 0), (0.32 * math.cos(b), 0.32 * math.sin(b))], 0.12, INK)
    c.disc(0, 0, 0.1, k)


def sneeze(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.poly([(-0.1, 0.98), (0.0, 0.35), (0.5, 0.25), (0.85, 0.5), (0.95, 0.98)], k)
    c.disc(0.42, -0.3, 0.52, SKIN)
    c.poly([(-0.05, -0.5), (0.1, -0.86), (0.5, -0.98), (0.95, -0.7), (0.98, -0.1), (0.75, -0.2), (0.7, -0.55)], BROWN)
    c.poly([(-0.02, -0.35), (-0.3, -0.12), (-0.02, -0.06)], SKIN)
    c.line([(0.08, -0.42), (0.3, -0.34)], 0.1, INK)
    c.disc(0.05, 0.06, 0.13, (150, 30, 40))
    for i in range(9 + round(6 * loud)):
        a, d = -0.5 + 1.0 * ((i * 0.7549) % 1.0), 0.25 + 0.65 * ((i * 0.5698) % 1.0)
        c.disc(-0.08 - d * math.cos(a), 0.05 + d * math.sin(a), 0.075, (96, 190, 236))


def helicopter(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.line([(0.2, -0.05), (0.95, -0.15)], 0.16, dark(k, 0.2))
    c.disc(0.93, -0.18, 0.2, GREY)
    c.disc(-0.25, 0.05, 0.6, k, 0.46)
    c.disc(-0.5, -0.04, 0.3, (186, 226, 246), 0.27)
    c.line([(-0.2, -0.4), (-0.2, -0.68)], 0.1, INK)
    c.line([(-0.98, -0.7), (0.62, -0.7)], 0.12, INK)
    for x in (-0.5, 0.02):
        c.line([(x, 0.45), (x, 0.72)], 0.08, INK)
    c.line([(-0.85, 0.74), (0.32, 0.74)], 0.11, INK)


def chainsaw(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.box(-0.98, -0.1, 0.15, 0.24, STEEL)
    for i in range(7):
        x = -0.95 + 0.16 * i
        c.poly([(x, -0.1), (x + 0.08, -0.26), (x + 0.14, -0.1)], INK)
        c.poly([(x, 0.24), (x + 0.08, 0.4), (x + 0.14, 0.24)], INK)
    c.poly([(0.05, -0.3), (0.62, -0.3), (0.78, 0.0), (0.78, 0.5), (0.05, 0.5)], k)
    c.line([(0.2, -0.3), (0.2, -0.7), (0.7, -0.6), (0.68, -0.25)], 0.13, INK)
    c.line([(0.75, 0.1), (0.98, 0.1), (0.98, 0.5), (0.72, 0.5)], 0.12, dark(k, 0.4))
    c.disc(0.42, 0.1, 0.16, dark(k, 0.4))


def rooster(c: Canvas, k: Colour, loud: float, rng) -> None:
    for i, (x, y) in enumerate(((0.98, -0.55), (0.98, -0.15), (0.9, 0.2))):
        c.poly([(0.3, 0.2), (0.55, -0.35 + 0.2 * i), (x, y), (0.5, 0.35)], (INK, dark(k, 0.5), dark(k, 0.25))[i])
    c.disc(0.05, 0.25, 0.52, k, 0.42)
    c.poly([(-0.75, -0.55), (-0.25, -0.55), (0.15, 0.1), (-0.42, 0.35)], k)
    c.disc(-0.5, -0.55, 0.27, k)
    for x, y in ((-0.66, -0.84), (-0.48, -0.92), (-0.3, -0.83)):
        c.disc(x, y, 0.13, (226, 40, 40))
    c.poly([(-0.72, -0.62), (-1.0, -0.48), (-0.72, -0.42)], ORANGE)
    c.disc(-0.66, -0.28, 0.1, (226, 40, 40), 0.16)
    _eye(c, -0.54, -0.6, 0.09)
    for x in (-0.05, 0.2):
        c.line([(x, 0.6), (x, 0.95), (x - 0.18, 0.95)], 0.08, ORANGE)


def fire(c: Canvas, k: Colour, loud: float, rng) -> None:
    top = 0.25 - 1.15 * (0.25 + 0.75 * loud)
    c.line([(-0.7, 0.92), (0.7, 0.68)], 0.17, BROWN)
    c.line([(-0.7, 0.68), (0.7, 0.92)], 0.17, dark(BROWN, 0.2))
    outer = [(-0.62, 0.7), (-0.68, 0.2 + top * 0.3), (-0.36, 0.3 + top * 0.2), (-0.22, top * 0.75), (-0.02, top * 0.35)]
    outer += [(0.16, top), (0.34, top * 0.3 + 0.2), (0.56, top * 0.55 + 0.1), (0.64, 0.7)]
    c.poly(outer, k)
    inner = [(-0.34, 0.7), (-0.26, 0.35 + top * 0.2), (0.04, 0.2 + top * 0.45), (0.22, 0.4 + top * 0.2), (0.38, 0.7)]
    c.poly(inner, ORANGE)
    c.poly([(-0.16, 0.7), (0.03, 0.4 + top * 0.2), (0.2, 0.7)], (252, 232, 110))


def bell(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.disc(0, -0.84, 0.13, dark(k, 0.3))
    c.poly(
        [
            (-0.18, -0.75),
            (0.18, -0.75),
            (0.46, -0.4),
            (0.52, 0.25),
            (0.85, 0.55),
            (-0.85, 0.55),
            (-0.52, 0.25),
            (-0.46, -0.4),
        ],
        k,
    )
    c.poly([(-0.3, -0.35), (-0.15, -0.4), (-0.2, 0.3), (-0.38, 0.3)], light(k, 0.6))
    c.box(-0.9, 0.52, 0.9, 0.7, dark(k, 0.2))
    c.disc(0, 0.82, 0.16, dark(k, 0.45))


def drum(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.box(-0.8, -0.15, 0.8, 0.7, k)
    c.disc(0, 0.7, 0.8, k, 0.24)
    for i in range(5):
        x = -0.8 + 0.4 * i
        c.line([(x, -0.05), (min(x + 0.2, 0.8), 0.75), (min(x + 0.4, 0.8), -0.05)], 0.06, WHITE)
    c.disc(0, -0.15, 0.8, (244, 236, 214), 0.26)
    for s in (-1, 1):
        c.line([(s * 0.15, -0.2), (s * 0.75, -0.85)], 0.09, BROWN)
        c.disc(s * 0.13, -0.19, 0.11, BROWN)


def bird(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.poly([(0.3, 0.05), (0.98, -0.25), (0.95, 0.2)], dark(k, 0.35))
    c.disc(0.0, 0.12, 0.56, k, 0.45)
    c.disc(-0.45, -0.35, 0.36, k)
    c.poly([(-0.72, -0.45), (-1.0, -0.28), (-0.72, -0.2)], ORANGE)
    c.poly([(-0.25, 0.0), (0.45, -0.05), (0.55, 0.3), (0.05, 0.38)], dark(k, 0.3))
    c.disc(-0.2, 0.36, 0.26, light(k, 0.6), 0.17)
    _eye(c, -0.52, -0.42)
    for x in (-0.1, 0.12):
        c.line([(x, 0.52), (x, 0.92), (x - 0.16, 0.92)], 0.07, ORANGE)


def cat(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.line([(0.4, 0.75), (0.85, 0.6), (0.8, 0.1), (0.98, -0.1)], 0.15, k)
    c.disc(0.05, 0.5, 0.5, k, 0.48)
    for s in (-1, 1):
        c.poly([(s * 0.12 - 0.05, -0.6), (s * 0.5 - 0.05, -0.98), (s * 0.55 - 0.05, -0.3)], k)
        c.poly([(s * 0.26 - 0.05, -0.62), (s * 0.44 - 0.05, -0.82), (s * 0.46 - 0.05, -0.5)], PINK)
    c.disc(-0.05, -0.25, 0.55, k, 0.46)
    for s in (-1, 1):
        c.disc(s * 0.24 - 0.05, -0.32, 0.12, (252, 226, 90), 0.14)
        c.disc(s * 0.24 - 0.05, -0.32, 0.045, INK, 0.13)
        for y in (-0.12, 0.02):
            c.line([(s * 0.3 - 0.05, -0.05), (s * 0.8 - 0.05, y)], 0.045, INK)
    c.disc(-0.05, -0.1, 0.09, PINK, 0.07)
    c.disc(-0.05, 0.6, 0.22, light(k, 0.6), 0.28)


def train(c: Canvas, k: Colour, loud: float, rng) -> None:
    for i in range(2 + round(loud)):
        c.disc(-0.45 + 0.3 * i, -0.78 - 0.06 * i, 0.16 + 0.05 * i, (226, 226, 230))
    c.box(0.2, -0.5, 0.85, 0.4, k)
    c.box(0.1, -0.62, 0.95, -0.45, dark(k, 0.4))
    c.box(0.36, -0.32, 0.7, 0.0, (190, 228, 246))
    c.box(-0.85, -0.15, 0.25, 0.4, light(k, 0.15))
    c.poly([(-0.68, -0.15), (-0.72, -0.55), (-0.38, -0.55), (-0.42, -0.15)], dark(k, 0.4))
    c.poly([(-0.85, 0.2), (-1.0, 0.55), (-0.7, 0.55)], dark(k, 0.5))
    for x, r in ((-0.6, 0.22), (-0.12, 0.22), (0.52, 0.3)):
        c.disc(x, 0.62, r, INK)
        c.disc(x, 0.62, r * 0.5, STEEL)


def bee(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.disc(-0.12, -0.5, 0.3, (226, 240, 252), 0.42)
    c.disc(0.3, -0.48, 0.28, (226, 240, 252), 0.38)
    c.poly([(0.7, 0.05), (1.0, 0.18), (0.68, 0.3)], INK)
    c.disc(0.12, 0.15, 0.66, k, 0.45)
    for x, h in ((-0.12, 0.42), (0.2, 0.44), (0.5, 0.34)):
        c.box(x - 0.08, 0.15 - h, x + 0.08, 0.15 + h, INK)
    c.disc(-0.6, 0.1, 0.32, dark(k, 0.3))
    _eye(c, -0.7, 0.03, 0.12)
    c.line([(-0.68, -0.15), (-0.9, -0.5)], 0.06, INK)
    c.line([(-0.52, -0.18), (-0.6, -0.55)], 0.06, INK)


def wind(c: Canvas, k: Colour, loud: float, rng) -> None:
    """A tree that bends with the wind."""
    lean = 0.15 + 0.75 * loud
    c.poly([(-0.72, 0.98), (-0.46, 0.98), (-0.3 + 0.4 * lean, 0.2), (-0.42 + 0.4 * lean, 0.2)], BROWN)
    for x, y, r in ((0.0, 0.0, 0.36), (0.22, -0.3, 0.36), (0.45, 0.06, 0.3)):
        c.disc(x * (0.5 + lean) - 0.36 + 0.4 * lean, y, r, k, r * (1.05 - 0.35 * lean))
    for i in range(2 + round(3 * loud)):
        y = -0.9 + 0.36 * i
        c.line([(-0.98, y), (0.2 + 0.1 * (i % 2), y), (0.42, y - 0.1), (0.3, y - 0.2)], 0.06, (150, 200, 232))


def thunder(c: Canvas, k: Colour, loud: float, rng) -> None:
    for x, y, r in ((-0.45, -0.55, 0.36), (0.0, -0.68, 0.42), (0.45, -0.52, 0.38)):
        c.disc(x, y, r, (84, 84, 100))
    c.box(-0.75, -0.6, 0.75, -0.28, (84, 84, 100))
    for i in range(1 + round(loud * 2)):
        x = (0.05, -0.48, 0.52)[i]
        c.poly(
            [
                (x + 0.02, -0.28),
                (x - 0.26, 0.34),
                (x - 0.02, 0.3),
                (x - 0.2, 0.95),
                (x + 0.3, 0.14),
                (x + 0.06, 0.16),
                (x + 0.26, -0.28),
            ],
            k,
        )


def frog(c: Canvas, k: Colour, loud: float, rng) -> None:
    for s in (-1, 1):
        c.disc(s * 0.68, 0.72, 0.3, dark(k, 0.2), 0.18)
        c.disc(s * 0.38, -0.5, 0.27, k)
    c.disc(0, 0.25, 0.78, k, 0.62)
    for s in (-1, 1):
        _eye(c, s * 0.38, -0.52, 0.17)
    c.arc(0, 0.0, 0.5, 0.06, 0.44, 0.08, INK)


def kettle(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.arc(0, -0.3, 0.5, 0.5, 1.0, 0.13, INK)
    c.poly([(0.4, 0.2), (0.95, -0.35), (0.98, -0.12), (0.6, 0.6)], dark(k, 0.15))
    c.poly([(-0.42, -0.3), (0.42, -0.3), (0.72, 0.85), (-0.72, 0.85)], k)
    c.box(-0.48, -0.38, 0.48, -0.24, dark(k, 0.35))
    c.disc(0, -0.48, 0.1, INK)
    c.disc(0.85, -0.68, 0.15, (230, 232, 236))


def guitar(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.line([(0.0, 0.0), (0.68, -0.72)], 0.15, BROWN)
    c.poly([(0.62, -0.85), (0.86, -0.98), (0.98, -0.84), (0.82, -0.64)], INK)
    c.disc(-0.42, 0.42, 0.52, k)
    c.disc(0.0, 0.02, 0.36, k)
    c.disc(-0.2, 0.2, 0.17, INK)
    c.line([(-0.62, 0.48), (-0.4, 0.7)], 0.1, INK)


def phone(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.box(-0.42, -0.95, 0.42, 0.95, k)
    c.box(-0.3, -0.75, 0.3, -0.1, (206, 232, 240))
    for i in range(9):
        c.disc(-0.22 + 0.22 * (i % 3), 0.15 + 0.25 * (i // 3), 0.08, INK)
    c.line([(0.3, -0.95), (0.3, -1.0)], 0.1, INK)


def siren(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.box(-0.62, 0.4, 0.62, 0.75, INK)
    c.poly([(-0.45, 0.4), (-0.42, -0.05), (-0.22, -0.3), (0.22, -0.3), (0.42, -0.05), (0.45, 0.4)], k)
    c.poly([(-0.28, 0.3), (-0.26, 0.0), (-0.1, -0.15), (-0.1, 0.3)], light(k, 0.7))
    for i in range(5):
        a = math.pi * (1.0 + i / 4)
        c.line(
            [(0.62 * math.cos(a), 0.05 + 0.62 * math.sin(a)), (0.95 * math.cos(a), 0.05 + 0.95 * math.sin(a))],
            0.09,
            (252, 214, 70),
        )


def boat(c: Canvas, k: Colour, loud: float, rng) -> None:
    c.line([(0, 0.35), (0, -0.95)], 0.08, BROWN)
    c.poly([(0.08, -0.9), (0.08, 0.22), (0.75, 0.22)], WHITE)
    c.poly([(-0.08, -0.7), (-0.08, 0.22), (-0.6, 0.22)], light(k, 0.7))
    c.poly([(-0.95, 0.35), (0.95, 0.35), (0.62, 0.85), (-0.62, 0.85)], k)


DRAWINGS = {
    function.__name__: function
    for function in (
        *(dog, rain, waves, baby, clock, sneeze, helicopter, chainsaw, rooster, fire, bell, drum, bird, cat, train),
        *(bee, wind, thunder, frog, kettle, guitar, phone, siren, boat),
    )
}
