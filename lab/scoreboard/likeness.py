"""How like two pictures are."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # of SSIM, as in Wang et al. 2004
QUIET = 60.0  # dB that equal pictures are given


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """dB between pictures (B, H, W, 3) uint8 over the pixels `where` (B, H, W), (B,); nan where there are none."""
    squares = ((a.astype(np.float32) - b.astype(np.float32)) / 255) ** 2
    counts = where.sum((1, 2))
    means = (squares.mean(-1) * where).sum((1, 2)) / np.where(counts, counts, np.nan)
    return np.minimum(QUIET, -10 * np.log10(np.maximum(means, 10 ** (-QUIET / 10))))


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of the brightness of pictures (B, H, W, 3) uint8, (B,) in -1..1."""
    x, y = (_brightness(p) for p in (a, b))
    places = torch.arange(WINDOW) - WINDOW // 2
    line = torch.exp(-(places.float() ** 2) / (2 * SIGMA**2))
    kernel = torch.outer(line, line)[None, None] / line.sum() ** 2

    def blur(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel)

    mean_x, mean_y = blur(x), blur(y)
    spread_x, spread_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    together = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_x * mean_y + c1) * (2 * together + c2)
    return (similar / ((mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2))).mean((1, 2, 3)).numpy()


def _brightness(pictures: np.ndarray) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114])
    return (torch.from_numpy(pictures.astype(np.float32)) / 255 @ weights)[:, None]
