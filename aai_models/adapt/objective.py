"""Eq. 6: the latent diffusion loss, for every parametrisation that predicts from x = f(x_0, noise, sigma)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class NoisySample:
    """What one evaluation of Eq. 6 draws: z, t and epsilon."""

    latents: Tensor  # z_0, (B, C, H, W)
    noise: Tensor  # epsilon, (B, C, H, W)
    sigmas: Tensor  # noise level of t, (B,)


def diffusion_loss(noisy: Tensor, denoised: Tensor, sample: NoisySample, *, flow: bool = False) -> Tensor:
    """|| epsilon - epsilon_theta ||^2 (Eq. 6) from the denoised estimate; (B, C, H, W) each; returns a float32 scalar.

    With x = x_0 + sigma epsilon (eps and v models in this parametrisation) (x - D) / sigma is epsilon_theta; with
    x = (1 - sigma) x_0 + sigma epsilon (`flow`) it is the velocity, whose target is epsilon - x_0.
    """
    sigmas = sample.sigmas.view(-1, 1, 1, 1).float()
    prediction = (noisy.float() - denoised.float()) / sigmas
    target = sample.noise - sample.latents if flow else sample.noise
    return F.mse_loss(prediction, target.float())


def draw_samples(latents: Tensor, sigmas: Tensor, batch: int, generator: torch.Generator) -> NoisySample:
    """Draw `batch` latents, timesteps (uniform, as in the paper) and noises. `latents` (R, C, H, W), `sigmas` (T,), on CPU."""
    which = torch.randint(0, latents.shape[0], (batch,), generator=generator)
    when = torch.randint(0, sigmas.shape[0], (batch,), generator=generator)
    noise = torch.randn((batch, *latents.shape[1:]), generator=generator)
    return NoisySample(latents[which], noise, sigmas[when])


def held_out_samples(latents: Tensor, sigmas: Tensor, count: int, generator: torch.Generator) -> list[NoisySample]:
    """A fixed set of `count` single samples whose timesteps cover the schedule evenly, to compare tokens on."""
    samples = []
    for index in range(count):
        which = index % latents.shape[0]
        when = int((index + 0.5) / count * sigmas.shape[0])
        noise = torch.randn((1, *latents.shape[1:]), generator=generator)
        samples.append(NoisySample(latents[which : which + 1], noise, sigmas[when : when + 1]))
    return samples
