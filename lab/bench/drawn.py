"""Pictures of the ten classes of ESC-10, drawn from a seed: what a small run of Align sees where no photographs are."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFilter

SIDE = 224
Colour = tuple[int, int, int]


class Board:
    """A canvas in units of its own size, with a place and a size of the thing that is drawn on it."""

    def __init__(self, chance: random.Random, ground: Colour):
        self.chance = chance
        self.image = Image.new("RGB", (SIDE, SIDE), vary(chance, ground))
        self.draw = ImageDraw.Draw(self.image)
        self.x, self.y = chance.uniform(0.35, 0.65), chance.uniform(0.4, 0.65)
        self.size = chance.uniform(0.7, 1.2)
        self.flip = chance.choice((-1, 1))

    def at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        """Places relative to the thing, in pixels."""
        return [((self.x + self.flip * self.size * px) * SIDE, (self.y + self.size * py) * SIDE) for px, py in points]

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, colour: Colour) -> None:
        ((x, y),) = self.at((cx, cy))
        rx, ry = rx * self.size * SIDE, ry * self.size * SIDE
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour, outline=(30, 30, 30))

    def polygon(self, *points: tuple[float, float], colour: Colour) -> None:
        self.draw.polygon(self.at(*points), fill=colour, outline=(30, 30, 30))

    def line(self, *points: tuple[float, float], colour: Colour, width: int = 4) -> None:
        self.draw.line(self.at(*points), fill=colour, width=width)


def vary(chance: random.Random, colour: Colour, by: int = 35) -> Colour:
    return tuple(max(0, min(255, value + chance.randint(-by, by))) for value in colour)


def some_ground(chance: random.Random) -> Colour:
    return chance.choice(((120, 160, 110), (190, 180, 150), (140, 170, 200), (170, 150, 140), (110, 120, 130)))


def dog(chance: random.Random) -> Image.Image:
    board = Board(chance, some_ground(chance))
    coat = vary(chance, chance.choice(((120, 80, 40), (60, 50, 45), (200, 170, 120))))
    for x in (-0.16, -0.08, 0.1, 0.18):
        board.polygon((x, 0.05), (x + 0.05, 0.05), (x + 0.05, 0.26), (x, 0.26), colour=coat)
    board.ellipse(0, 0.03, 0.24, 0.12, coat)
    board.line((-0.22, 0), (-0.33, -chance.uniform(0.05, 0.2)), colour=coat, width=9)
    board.ellipse(0.24, -0.11, 0.11, 0.1, coat)
    board.ellipse(0.33, -0.08, 0.07, 0.05, coat)
    board.ellipse(0.39, -0.1, 0.02, 0.02, (10, 10, 10))
    board.ellipse(0.17, -0.11, 0.035, 0.1, vary(chance, (50, 35, 25), 15))
    board.ellipse(0.26, -0.14, 0.015, 0.015, (10, 10, 10))
    return board.image


def rooster(chance: random.Random) -> Image.Image:
    board = Board(chance, some_ground(chance))
    feathers = vary(chance, chance.choice(((160, 70, 30), (230, 225, 215), (60, 45, 40))))
    for n in range(5):
        angle = 0.5 + 0.28 * n
        tail = vary(chance, (30, 90, 80))
        board.line((-0.12, 0.02), (-0.12 - 0.28 * math.cos(angle), 0.02 - 0.3 * math.sin(angle)), colour=tail, width=9)
    board.ellipse(0, 0.06, 0.17, 0.14, feathers)
    board.polygon((0.05, 0), (0.16, 0.05), (0.22, -0.2), (0.13, -0.22), colour=feathers)
    board.ellipse(0.18, -0.22, 0.07, 0.07, feathers)
    for n in range(3):
        board.ellipse(0.13 + 0.045 * n, -0.3, 0.03, 0.05, (205, 30, 35))
    board.polygon((0.24, -0.25), (0.34, -0.21), (0.24, -0.18), colour=(235, 180, 40))
    board.ellipse(0.23, -0.13, 0.025, 0.05, (205, 30, 35))
    for x in (-0.03, 0.06):
        board.line((x, 0.18), (x, 0.32), colour=(225, 165, 40), width=5)
    return board.image


def rain(chance: random.Random) -> Image.Image:
    board = Board(chance, (95, 105, 120))
    slant = chance.uniform(-0.08, 0.08)
    for _ in range(chance.randint(2, 4)):
        x, y = chance.random() * SIDE, chance.uniform(0, 45)
        board.draw.ellipse((x - 70, y - 32, x + 70, y + 32), fill=vary(chance, (70, 75, 85), 15))
    for _ in range(chance.randint(90, 200)):
        x, y, length = chance.random() * SIDE, chance.random() * SIDE, chance.uniform(12, 26)
        board.draw.line((x, y, x + slant * 120, y + length), fill=vary(chance, (185, 200, 220), 20), width=2)
    return board.image


def sea_waves(chance: random.Random) -> Image.Image:
    board = Board(chance, (160, 200, 230))
    horizon = chance.uniform(0.25, 0.45) * SIDE
    for row in range(8):
        depth = horizon + row * (SIDE - horizon) / 7
        phase, period = chance.uniform(0, 6), chance.uniform(25, 60)
        tall = 3 + 1.7 * row
        top = [(x, depth + tall * math.sin(x / period * 2 + phase)) for x in range(0, SIDE + 4, 4)]
        board.draw.polygon([*top, (SIDE, SIDE), (0, SIDE)], fill=vary(chance, (25, 85 + 8 * row, 150 + 5 * row), 14))
        board.draw.line(top, fill=(235, 245, 250), width=2 + row // 3)
    return board.image


def crackling_fire(chance: random.Random) -> Image.Image:
    board = Board(chance, (40, 30, 35))
    for share, colour in ((1.0, (200, 50, 20)), (0.7, (245, 130, 25)), (0.4, (255, 225, 90))):
        for _ in range(7):
            x, wide, tall = chance.uniform(-0.2, 0.2) * share, 0.09 * share, chance.uniform(0.2, 0.45) * share
            tip = x + chance.uniform(-0.08, 0.08)
            shape = ((x - wide, 0.22), (x - wide, 0.1), (tip, 0.2 - tall), (x + wide, 0.1), (x + wide, 0.22))
            board.draw.polygon(board.at(*shape), fill=vary(chance, colour, 20))
    for angle in (-0.1, 0.1):
        board.line((-0.28, 0.25 - angle), (0.28, 0.25 + angle), colour=vary(chance, (90, 55, 30), 15), width=14)
    return board.image.filter(ImageFilter.GaussianBlur(0.8))


def face(board: Board, skin: Colour) -> None:
    board.ellipse(0, 0, 0.25, 0.27, skin)
    for x in (-0.25, 0.25):
        board.ellipse(x, 0.02, 0.04, 0.06, skin)


def some_skin(chance: random.Random) -> Colour:
    return vary(chance, chance.choice(((245, 205, 175), (200, 150, 115), (120, 80, 60))), 12)


def crying_baby(chance: random.Random) -> Image.Image:
    board = Board(chance, chance.choice(((225, 200, 215), (190, 215, 230), (240, 230, 190))))
    face(board, some_skin(chance))
    for x in (-0.1, 0.1):
        board.line((x - 0.05, -0.06), (x, -0.03), (x + 0.05, -0.06), colour=(30, 25, 25), width=4)
        for n in range(3):
            board.ellipse(x + 0.02, 0.02 + 0.07 * n, 0.018, 0.028, (90, 160, 235))
    board.ellipse(0, 0.13, 0.1, chance.uniform(0.06, 0.1), (150, 30, 40))
    board.line((0, -0.27), (0.03, -0.34), (-0.02, -0.33), colour=(80, 50, 30), width=4)
    return board.image


def sneeze(chance: random.Random) -> Image.Image:
    board = Board(chance, some_ground(chance))
    face(board, some_skin(chance))
    board.ellipse(0, -0.22, 0.22, 0.1, vary(chance, (70, 50, 35)))
    for x in (-0.02, 0.14):
        board.line((x - 0.04, -0.02), (x + 0.04, -0.02), colour=(30, 25, 25), width=5)
    board.polygon((0.08, 0), (0.2, 0.09), (0.07, 0.1), colour=vary(chance, (225, 140, 120), 15))
    for _ in range(chance.randint(40, 80)):
        far = chance.uniform(0.08, 0.45)
        board.ellipse(0.18 + far, 0.12 + chance.uniform(-0.5, 0.5) * far, 0.009, 0.009, (235, 245, 250))
    board.polygon((0.02, 0.17), (0.2, 0.15), (0.24, 0.33), (0.05, 0.36), colour=(250, 250, 250))
    return board.image


def clock_tick(chance: random.Random) -> Image.Image:
    board = Board(chance, some_ground(chance))
    board.ellipse(0, 0, 0.32, 0.32, vary(chance, (120, 85, 50)))
    board.ellipse(0, 0, 0.28, 0.28, vary(chance, (245, 240, 225), 10))
    for hour in range(12):
        x, y = math.sin(hour * math.pi / 6), math.cos(hour * math.pi / 6)
        board.line((0.23 * x, 0.23 * y), (0.27 * x, 0.27 * y), colour=(20, 20, 20), width=5 if hour % 3 == 0 else 2)
    for length, width in ((0.14, 7), (0.22, 4)):
        angle = chance.uniform(0, 2 * math.pi)
        board.line((0, 0), (length * math.sin(angle), -length * math.cos(angle)), colour=(20, 20, 20), width=width)
    board.ellipse(0, 0, 0.015, 0.015, (180, 30, 30))
    return board.image


def helicopter(chance: random.Random) -> Image.Image:
    board = Board(chance, (165, 200, 235))
    paint = vary(chance, chance.choice(((190, 40, 40), (50, 70, 60), (40, 70, 140))))
    board.polygon((-0.1, -0.02), (-0.42, -0.05), (-0.42, -0.01), (-0.1, 0.08), colour=paint)
    board.line((-0.42, -0.14), (-0.42, 0.08), colour=(60, 60, 60), width=4)
    board.ellipse(0.05, 0.02, 0.2, 0.12, paint)
    board.ellipse(0.14, 0, 0.09, 0.07, (200, 225, 240))
    board.line((0.03, -0.1), (0.03, -0.17), colour=(60, 60, 60), width=6)
    tilt = chance.uniform(-0.04, 0.04)
    board.line((-0.35, -0.17 - tilt), (0.41, -0.17 + tilt), colour=(50, 50, 50), width=5)
    board.line((-0.12, 0.2), (0.24, 0.2), colour=(60, 60, 60), width=5)
    for x in (-0.04, 0.14):
        board.line((x, 0.12), (x, 0.2), colour=(60, 60, 60), width=4)
    return board.image


def chainsaw(chance: random.Random) -> Image.Image:
    board = Board(chance, some_ground(chance))
    body = vary(chance, chance.choice(((230, 110, 20), (200, 40, 30), (230, 200, 40))), 20)
    board.polygon((0, -0.04), (0.42, -0.03), (0.46, 0.02), (0.42, 0.07), (0, 0.08), colour=(185, 190, 195))
    for n in range(14):
        for y in (-0.045, 0.085):
            board.ellipse(0.02 + 0.03 * n, y, 0.012, 0.012, (60, 60, 60))
    board.polygon((-0.3, -0.1), (0.03, -0.12), (0.05, 0.12), (-0.3, 0.14), colour=body)
    board.line((-0.28, -0.1), (-0.2, -0.24), (0, -0.24), (0.02, -0.12), colour=(40, 40, 40), width=9)
    board.line((-0.3, 0.1), (-0.42, 0.06), (-0.42, -0.06), (-0.3, -0.08), colour=(40, 40, 40), width=9)
    return board.image


THINGS = {
    "chainsaw": chainsaw,
    "clock tick": clock_tick,
    "crackling fire": crackling_fire,
    "crying baby": crying_baby,
    "dog": dog,
    "helicopter": helicopter,
    "rain": rain,
    "rooster": rooster,
    "sea waves": sea_waves,
    "sneeze": sneeze,
}


def drawn(label: str, seed: int) -> Image.Image:
    """A picture of a class (224 x 224, RGB); the same for a seed everywhere."""
    return THINGS[label](random.Random(f"{label} {seed}"))
