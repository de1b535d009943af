"""Reads the row of a word from a picture of a shape, so that shapes without a number can be taught: none has its own row."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pocket.models.text import WIDTH
from ...pocket.world.canvas import Canvas
from ...pocket.world.grammar import draw_shape, shape_number
from ...pocket.world.names import COLOURS

SIDE = 32  # pixels of a portrait


def portraits_of(shapes: list[str]) -> Tensor:
    """Each shape alone on paper, always of one colour and size (N, 3, 32, 32) uint8."""
    drawn = np.empty((len(shapes), SIDE, SIDE, 3), np.uint8)
    for picture, shape in zip(drawn, shapes, strict=True):
        canvas = Canvas(2 * SIDE)
        draw_shape(canvas, COLOURS["blue"], shape_number(shape))
        picture[:] = canvas.image.reduce(2)
    return torch.from_numpy(drawn).permute(0, 3, 1, 2)


class Glance(nn.Module):
    """Portraits (B, 3, 32, 32) uint8 -> rows (B, 768) of a word's size."""

    def __init__(self):
        super().__init__()
        layers = []
        for n_in, n_out in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(8, n_out), nn.SiLU()]
        self.body, self.out = nn.Sequential(*layers), nn.Linear(128 * 16, WIDTH)
        self.size = nn.Parameter(torch.tensor(0.25))  # logarithm; about that of other rows

    def forward(self, portraits: Tensor) -> Tensor:
        rows = self.out(self.body(portraits.float() / 127.5 - 1).flatten(1)).float()
        return F.normalize(rows, dim=-1) * self.size.exp()
