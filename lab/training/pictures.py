"""Batches of drawn pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...pocket.world.grammar import COUNT, shape_name
from ...pocket.world.names import NAMED, UNNAMED
from ...pocket.world.scene import Scene, random_scene
from ...pocket.world.styles import COUNT as STYLE_COUNT
from ...pocket.world.styles import style_name

SHAPES = [shape_name(number) for number in range(COUNT)]
RANDOM_STYLES = [style_name(number) for number in range(STYLE_COUNT)]
SHARE_OF_SHAPES, SHARE_OF_UNNAMED = 0.12, 0.10


def training_scene(
    rng: np.random.Generator, second: float = 0.25, styled: float = 0.0, unnumbered: float = 0.0
) -> Scene:
    """A scene as training sees them: named things, unnamed ones, shapes, pairs, empty places. Never an unseen thing.

    `second` is the share of the pictures of named things that hold two, `styled` that of all pictures in random styles,
    `unnumbered` that of all pictures of a shape that is none of the numbered ones.
    """
    scene = _scene(rng, second)
    if unnumbered and rng.random() < unnumbered:
        scene = random_scene(rng, [shape_name(int(rng.integers(COUNT, 2**31)))])
    if styled and rng.random() < styled:
        return replace(scene, style=str(rng.choice(RANDOM_STYLES)))
    return scene


def _scene(rng: np.random.Generator, second: float) -> Scene:
    kind = rng.random()
    if kind < SHARE_OF_SHAPES:
        return random_scene(rng, SHAPES)
    if kind < SHARE_OF_SHAPES + SHARE_OF_UNNAMED:
        return random_scene(rng, list(UNNAMED))
    return random_scene(rng, list(NAMED), second=second, empty=0.08)


def to_tensor(pictures: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B, 128, 128, 3) uint8 -> (B, 3, 128, 128) float in -1..1, on a device."""
    return torch.from_numpy(pictures).to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) float in -1..1 -> (B, H, W, 3) uint8."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
