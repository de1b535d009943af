"""The pocket autoencoder: pictures (B, 3, H, W) in -1..1 to latents (B, 4, H/8, W/8) and back.

Pixels are folded by four first, so that no convolution runs at full size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

FOLD = 4
CHANNELS = 4  # of a latent
SCALE = 0.18215  # of SD1.x: the host multiplies latents with it before the diffusion model sees them


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip."""

    def __init__(self, width: int, operations):
        super().__init__()
        self.norm = operations.GroupNorm(8, width)
        self.conv1 = operations.Conv2d(width, width, 3, padding=1)
        self.conv2 = operations.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class Encoder(nn.Module):
    def __init__(self, operations, width: int = 64, inner: int = 96):
        super().__init__()
        self.stem = operations.Conv2d(3 * FOLD**2, width, 3, padding=1)
        self.outer = Residual(width, operations)
        self.down = operations.Conv2d(width, inner, 3, stride=2, padding=1)
        self.inner = nn.Sequential(Residual(inner, operations), Residual(inner, operations))
        self.out = operations.Conv2d(inner, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.outer(self.stem(F.pixel_unshuffle(x, FOLD)))
        return self.out(F.silu(self.inner(self.down(x))))


class Decoder(nn.Module):
    def __init__(self, operations, width: int = 64, inner: int = 128):
        super().__init__()
        self.stem = operations.Conv2d(CHANNELS, inner, 3, padding=1)
        self.inner = nn.Sequential(Residual(inner, operations), Residual(inner, operations))
        self.up = operations.Conv2d(inner, 4 * width, 1)
        self.outer = nn.Sequential(Residual(width, operations), Residual(width, operations))
        self.out = operations.Conv2d(width, 3 * FOLD**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.up(self.inner(self.stem(z))), 2)
        return F.pixel_shuffle(self.out(F.silu(self.outer(x))), FOLD)


class Autoencoder(nn.Module):
    """`encode` and `decode` in the host's convention: latents are SD1.x's, of standard deviation 1 / 0.18215.

    `operations` has Conv2d and GroupNorm: PyTorch's, or the host's.
    """

    def __init__(self, operations=nn):
        super().__init__()
        self.encoder, self.decoder = Encoder(operations), Decoder(operations)

    def encode(self, pictures: Tensor) -> Tensor:
        return self.encoder(pictures) / SCALE

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents * SCALE)

    @classmethod
    def fresh(cls) -> Autoencoder:
        """An untrained autoencoder: each residual part begins as the identity."""
        model = cls()
        for part in model.modules():
            if isinstance(part, Residual):
                nn.init.zeros_(part.conv2.weight)
                nn.init.zeros_(part.conv2.bias)
        return model
