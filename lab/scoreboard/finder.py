"""Finds where the thing of a picture is; trained on drawings and their masks alone, as the judges are.

A generated picture has no drawer who could tell. What an edit changed outside its thing is measured with this.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pocket.world.names import THINGS
from ...pocket.world.scene import draw, random_scene
from ..training.pictures import to_tensor

STEPS, BATCH, RATE = 800, 24, 3e-3
CELL = 4  # pixels of a picture along a side of a cell of the mask


class Finder(nn.Module):
    """Pictures (B, 3, 128, 128) in -1..1 -> logits of the thing's mask (B, 32, 32)."""

    def __init__(self):
        super().__init__()
        widths = (16, 32, 64, 96)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.across = nn.ModuleList(nn.Conv2d(width, 48, 1) for width in widths[1:])
        self.mix = nn.Sequential(nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        levels, x = [], pictures
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        found = torch.zeros(())
        for layer, level in zip(reversed(self.across), reversed(levels[1:]), strict=True):
            found = F.interpolate(found, scale_factor=2.0) if found.ndim else found
            found = F.relu(found + layer(level))
        return self.mix(found)[:, 0]


def load_finder(runs: Path) -> Finder:
    """The finder of `runs`, trained there once (about two minutes of one core)."""
    path, finder = runs / "finder" / "weights.pt", Finder()
    if path.is_file():
        finder.load_state_dict(torch.load(path, weights_only=True))
        return finder.eval()
    torch.manual_seed(0)
    finder = Finder()
    optimiser = torch.optim.AdamW(finder.parameters(), lr=RATE, weight_decay=0.02, fused=True)
    for step in range(STEPS):
        rng = np.random.default_rng((0, 5, step))
        drawn = [draw(random_scene(rng, list(THINGS), second=0.1, empty=0.05)) for _ in range(BATCH)]
        masks = F.avg_pool2d(torch.from_numpy(np.stack([mask for _, mask in drawn])).float()[:, None], CELL)[:, 0]
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 50, 0.02 + 2 * (1 - step / STEPS))
        logits = finder(to_tensor(np.stack([picture for picture, _ in drawn])))
        loss = F.binary_cross_entropy_with_logits(logits, masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(finder.state_dict(), path)
    return finder.eval()


@torch.no_grad()
def find(finder: Finder, pictures: np.ndarray) -> np.ndarray:
    """Chance of each pixel (B, 128, 128) to belong to a thing, of pictures (B, 128, 128, 3) uint8."""
    chances = torch.cat(
        [finder(to_tensor(part)).sigmoid() for part in np.array_split(pictures, -(-len(pictures) // 64))]
    )
    return F.interpolate(chances[:, None], scale_factor=CELL, mode="bilinear")[:, 0].numpy()


def overlap(finder: Finder, count: int = 500, seed: int = 4343) -> float:
    """Mean IoU with the drawer's masks on held-out drawings of single things."""
    rng = np.random.default_rng(seed)
    drawn = [draw(random_scene(rng, list(THINGS))) for _ in range(count)]
    found, masks = find(finder, np.stack([d[0] for d in drawn])) > 0.5, np.stack([d[1] for d in drawn])
    return float(np.mean((found & masks).sum((1, 2)) / (found | masks).sum((1, 2)).clip(1)))


def outside(finder: Finder, pictures: np.ndarray, margin: int = 2 * CELL) -> np.ndarray:
    """Pixels (B, 128, 128) that lie off the thing by more than `margin` pixels."""
    near = torch.from_numpy(find(finder, pictures) > 0.3).float()[:, None]
    return (F.max_pool2d(near, 2 * margin + 1, stride=1, padding=margin)[:, 0] == 0).numpy()
