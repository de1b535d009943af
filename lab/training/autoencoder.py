"""Trains the autoencoder on drawings made on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...pocket.models.autoencoder import SCALE, Autoencoder
from ...pocket.world.names import UNSEEN
from ...pocket.world.scene import random_scene
from .pictures import draw_batch, training_scene
from .runs import Average, Budget, Run


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of the run."""

    seed: int = 0
    minutes: float = 12.0  # of one core
    batch: int = 16
    rate: float = 2e-3  # AdamW's learning rate at its peak
    noise: float = 0.08  # added to unit-variance latents, so that the decoder forgives small errors
    bf16: bool = True  # autocast


def loss_of(model: Autoencoder, pictures: Tensor, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(loss, mean squared error): L1 + 0.5 MSE + 0.5 L1 of the gradients, and a pull of the latents to mean 0, variance 1."""
    z = model.encoder(pictures).float()
    decoded = model.decoder(z + noise * torch.randn(z.shape, generator=generator)).float()
    error = decoded - pictures
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3))
    pull = mean.square().mean() + (variance.clamp_min(1e-4).log()).square().mean()
    mse = error.square().mean()
    return error.abs().mean() + 0.5 * mse + 0.5 * slopes + 0.02 * pull, mse


def psnr(mse: float) -> float:
    """In dB, for pictures that span 2."""
    return float(10 * np.log10(4 / mse))


@torch.no_grad()
def evaluate(model: Autoencoder, things: list[str], count: int = 96, seed: int = 99) -> float:
    """Mean PSNR of drawings of `things` that are cut to 0..255."""
    rng = np.random.default_rng(seed)
    pictures = draw_batch([random_scene(rng, things) for _ in range(count)])
    decoded = model.decode(model.encode(pictures)).clamp(-1, 1)
    return float(np.mean([psnr(float(m)) for m in (decoded - pictures).square().mean((1, 2, 3))]))


def train(config: AutoencoderConfig, out: Path) -> Path:
    """Train or go on; returns the file of the averaged weights."""
    run = Run(out, "autoencoder", config)
    torch.manual_seed(config.seed)
    model = Autoencoder.fresh()
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    state, step = run.load(), 0
    if state:
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    budget = Budget(config.minutes, state["spent"] if state else 0.0)

    def checkpoint(now: bool = False) -> None:
        run.save(
            now,
            model=model.state_dict(),
            average=average.module.state_dict(),
            optimiser=optimiser.state_dict(),
            step=step,
            spent=budget.spent,
        )

    while budget.share < 1:
        rng = np.random.default_rng((config.seed, step))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        pictures = draw_batch([training_scene(rng) for _ in range(config.batch)])
        optimiser.param_groups[0]["lr"] = budget.rate(config.rate, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            loss, mse = loss_of(model, pictures, config.noise, generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        average.update(model, step)
        run.log(step=step, minutes=budget.spent / 60, loss=float(loss.detach()), psnr=psnr(float(mse.detach())))
        checkpoint()
    checkpoint(True)
    held = {"psnr_unseen": evaluate(average.module, list(UNSEEN)), "latent_scale": SCALE}
    run.log(True, step=step, minutes=budget.spent / 60, **held)
    path = run.folder / "weights.pt"
    torch.save(average.module.state_dict(), path)
    return path
