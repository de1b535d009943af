"""How each place looks: a sky and a ground in quiet colours, with details that move about."""

from __future__ import annotations

from .canvas import Canvas, dark, mix

CLOUD = (252, 252, 254)


def _halves(c: Canvas, horizon: float, sky, ground) -> None:
    c.box(-1, -1, 1, horizon, sky)
    c.box(-1, horizon, 1, 1, ground)


def _cloud(c: Canvas, x: float, y: float) -> None:
    for dx, r in ((-0.12, 0.08), (0.0, 0.11), (0.13, 0.08)):
        c.disc(x + dx, y, r * 1.3, CLOUD, r * 0.8)


def beach(c: Canvas, rng) -> None:
    horizon = 0.05 + 0.1 * rng.random()
    _halves(c, horizon, (132, 206, 240), (246, 220, 150))
    c.box(-1, horizon, 1, horizon + 0.3, (38, 146, 204))
    c.poly(
        [(-1, horizon + 0.34), (0, horizon + 0.27), (1, horizon + 0.34), (1, horizon + 0.4), (-1, horizon + 0.4)],
        (246, 220, 150),
    )
    c.disc(0.75 - 1.5 * (rng.random() < 0.5), -0.72, 0.15, (255, 236, 130))


def forest(c: Canvas, rng) -> None:
    _halves(c, 0.3, (196, 222, 186), (74, 112, 62))
    shift = rng.random() * 0.3
    for row, (base, height, colour) in enumerate((((0.3), 0.85, (92, 142, 92)), (0.42, 0.95, (38, 92, 56)))):
        for i in range(-1, 7):
            x = -1.1 + 0.36 * i + shift + 0.18 * row
            c.poly([(x - 0.19, base), (x, base - height), (x + 0.19, base)], colour)


def city(c: Canvas, rng) -> None:
    _halves(c, 0.42, (206, 194, 214), (104, 104, 112))
    x = -1.05 - 0.2 * rng.random()
    for i in range(7):
        width, top = 0.32 + 0.04 * (i % 3), (-0.5, -0.15, -0.72, -0.3, -0.6)[(i + int(rng.integers(5))) % 5]
        wall = ((136, 130, 160), (118, 112, 146), (154, 146, 170))[i % 3]
        c.box(x, top, x + width - 0.03, 0.42, wall)
        for k in range(4):
            if top + 0.1 + 0.24 * k < 0.3:
                c.box(x + 0.06, top + 0.1 + 0.24 * k, x + 0.24, top + 0.2 + 0.24 * k, (250, 226, 140))
        x += width
    c.box(-1, 0.68, 1, 0.72, (226, 226, 220))


def desert(c: Canvas, rng) -> None:
    _halves(c, 0.2, (250, 222, 168), (232, 188, 110))
    x = rng.uniform(-0.6, 0.6)
    c.disc(x, 0.36, 0.9, (216, 166, 92), 0.28)
    c.box(-1, 0.38, 1, 1, (232, 188, 110))
    x = 0.8 if rng.random() < 0.5 else -0.8
    for points in (
        [(x, 0.5), (x, -0.25)],
        [(x, 0.2), (x + 0.15, 0.2), (x + 0.15, -0.05)],
        [(x, 0.08), (x - 0.15, 0.08), (x - 0.15, -0.12)],
    ):
        c.line(points, 0.085, (70, 128, 70))


def snow(c: Canvas, rng) -> None:
    _halves(c, 0.3, (172, 190, 208), (246, 248, 252))
    c.poly([(-1, 0.3), (-0.5, -0.25 - 0.2 * rng.random()), (0.05, 0.3)], (212, 222, 234))
    c.poly([(-0.2, 0.3), (0.5, -0.2 - 0.2 * rng.random()), (1.1, 0.3)], (226, 234, 242))
    for x, y in rng.uniform(-1, 1, (16, 2)):
        c.disc(x, y, 0.028, CLOUD)


def meadow(c: Canvas, rng) -> None:
    horizon = 0.18 + 0.1 * rng.random()
    _halves(c, horizon, (150, 208, 250), (134, 200, 84))
    c.disc(rng.uniform(-0.6, 0.6), horizon + 0.12, 0.9, (114, 184, 72), 0.2)
    c.box(-1, horizon + 0.14, 1, 1, (134, 200, 84))
    _cloud(c, rng.uniform(-0.8, 0.8), -0.75)
    for x, y in rng.uniform((-1, 0.5), (1, 0.98), (10, 2)):
        c.disc(x, y, 0.035, ((250, 250, 250), (250, 214, 90), (240, 130, 170))[int(rng.integers(3))])


def room(c: Canvas, rng) -> None:
    _halves(c, 0.5, (228, 204, 184), (140, 92, 66))
    c.box(-1, 0.46, 1, 0.53, (250, 240, 226))
    x = -0.68 if rng.random() < 0.5 else 0.68
    c.box(x - 0.27, -0.85, x + 0.27, -0.25, (250, 246, 238))
    c.box(x - 0.22, -0.8, x - 0.02, -0.3, (170, 212, 238))
    c.box(x + 0.02, -0.8, x + 0.22, -0.3, (170, 212, 238))
    c.box(-x * 1.0 - 0.2, -0.7, -x * 1.0 + 0.2, -0.35, mix((140, 92, 66), (255, 255, 255), 0.35))


def night(c: Canvas, rng) -> None:
    _halves(c, 0.55, (18, 22, 58), (14, 32, 40))
    for x, y in rng.uniform((-1, -1), (1, 0.4), (18, 2)):
        c.disc(x, y, 0.022, (250, 246, 210))
    x = 0.7 if rng.random() < 0.5 else -0.7
    c.disc(x, -0.68, 0.17, (252, 244, 196))
    c.disc(x + 0.08, -0.72, 0.13, (18, 22, 58))
    c.poly([(-1, 0.55), (-0.4, 0.42), (0.3, 0.55), (0.8, 0.46), (1, 0.55)], dark((14, 32, 40), 0.2))


BACKGROUNDS = {f.__name__: f for f in (beach, forest, city, desert, snow, meadow, room, night)}
