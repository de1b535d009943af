"""A drawing surface that also keeps the mask of what is drawn as the scene's thing."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

SIDE = 128  # pixels of a finished picture
OVER = 2  # drawn this many times larger and reduced, for smooth edges
FULL = SIDE * OVER
PAPER = (250, 248, 242)
INK = (36, 34, 40)
WHITE = (250, 250, 250)

Colour = tuple[int, int, int]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour a with a share of b."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def dark(colour: Colour, share: float = 0.35) -> Colour:
    return mix(colour, (20, 16, 30), share)


def light(colour: Colour, share: float = 0.45) -> Colour:
    return mix(colour, (255, 255, 255), share)


class Canvas:
    """Shapes in a frame of their own: the thing's box reaches from -1 to 1, y downwards.

    In a sketch, shapes are outlines over a pale wash.
    """

    def __init__(self, side: int = FULL, sketch: bool = False):
        self.side, self.sketch = side, sketch
        self.image = Image.new("RGB", (side, side), PAPER)
        self.mask = Image.new("L", (side, side), 0)
        self._draw, self._stencil = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.masked = False  # whether what is drawn belongs to the thing
        self.frame(0.5, 0.5, 0.5)

    def frame(self, x: float, y: float, scale: float, mirrored: bool = False, turn: float = 0.0) -> None:
        """Set the box: centre and half side in shares of the picture; turn in radians."""
        self._centre, self._scale = (x * self.side, y * self.side), scale * self.side
        self._sign, self._cos, self._sin = -1 if mirrored else 1, math.cos(turn), math.sin(turn)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        x, y = x * self._cos - y * self._sin, x * self._sin + y * self._cos
        return self._centre[0] + self._sign * x * self._scale, self._centre[1] + y * self._scale

    def poly(self, points, fill: Colour) -> None:
        self._shape([self._place(x, y) for x, y in points], fill)

    def _shape(self, points, fill: Colour) -> None:
        if self.masked:
            self._stencil.polygon(points, fill=255)
        if not self.sketch:
            self._draw.polygon(points, fill=fill)
            return
        wash, line = (
            (mix(fill, PAPER, 0.80), dark(fill, 0.12)) if self.masked else (mix(fill, PAPER, 0.86), (150, 150, 150))
        )
        self._draw.polygon(points, fill=wash)
        self._draw.line([*points, points[0]], fill=line, width=5 if self.masked else 2, joint="curve")

    def disc(self, x: float, y: float, rx: float, fill: Colour, ry: float | None = None) -> None:
        """An ellipse of half widths rx, ry."""
        ry = rx if ry is None else ry
        count = 20 if max(rx, ry) * self._scale > 12 else 10
        angles = [2 * math.pi * i / count for i in range(count)]
        self.poly([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def line(self, points, width: float, fill: Colour) -> None:
        """A stroke of `width` in the box's unit."""
        points = [self._place(x, y) for x, y in points]
        pixels = max(2, round(width * self._scale))
        if self.masked:
            self._stencil.line(points, fill=255, width=pixels, joint="curve")
        if self.sketch:
            fill, pixels = (dark(fill, 0.12), max(3, min(5, pixels))) if self.masked else ((150, 150, 150), 2)
        self._draw.line(points, fill=fill, width=pixels, joint="curve")

    def arc(self, x: float, y: float, radius: float, start: float, stop: float, width: float, fill: Colour) -> None:
        """Part of a circle between two angles in turns, clockwise from the right."""
        angles = [2 * math.pi * (start + (stop - start) * i / 14) for i in range(15)]
        self.line([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], width, fill)
