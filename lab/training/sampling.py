"""SD1.x's noise schedule and a plain sampler, for training and judging outside ComfyUI."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

STEPS = 1000


def alphas_bar() -> Tensor:
    """Cumulative products of SD1.x's schedule (betas linear in their square roots, 0.00085..0.012), (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


@torch.no_grad()
def sample(denoise, shape: tuple[int, ...], generator: torch.Generator, steps: int = 16) -> Tensor:
    """DDIM (eta 0). `denoise(x, timesteps)` predicts the noise; returns latents of unit scale."""
    bar = alphas_bar()
    x = torch.randn(shape, generator=generator)
    times = torch.linspace(STEPS - 1, 0, steps + 1).round().long()
    for now, then in pairwise(times):
        noise = denoise(x, now.expand(shape[0]))
        clean = (x - (1 - bar[now]).sqrt() * noise) / bar[now].sqrt()
        target = bar[then] if then > 0 else torch.ones(())
        x = target.sqrt() * clean + (1 - target).sqrt() * noise
    return x


def guided(unet, context: Tensor, empty: Tensor, bias: Tensor | None, scale: float):
    """A `denoise` with classifier-free guidance: context (B, L, 768), empty (1, L, 768)."""

    def denoise(x: Tensor, timesteps: Tensor) -> Tensor:
        both = torch.cat([context, empty.expand(len(context), -1, -1)])
        told, free = unet(torch.cat([x, x]), torch.cat([timesteps, timesteps]), both, bias).chunk(2)
        return free + scale * (told - free)

    return denoise
