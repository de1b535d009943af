"""Trains the autoencoder on drawings made on the fly."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...pocket.models.autoencoder import SCALE, Autoencoder
from ...pocket.world.names import UNSEEN
from ...pocket.world.scene import draw, random_scene
from .pictures import to_tensor, training_scene
from .runs import Budget, Machine, Run, Session, at_work


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
    decoded = model.decoder(z + noise * torch.randn(z.shape, generator=generator, device=z.device)).float()
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
    drawn = np.stack([draw(random_scene(rng, things))[0] for _ in range(count)])
    pictures = to_tensor(drawn, next(model.parameters()).device)
    decoded = model.decode(model.encode(pictures)).clamp(-1, 1)
    return float(np.mean([psnr(float(m)) for m in (decoded - pictures).square().mean((1, 2, 3))]))


def drawings(config: AutoencoderConfig, step: int) -> np.ndarray:
    """The pictures of a step (B, 128, 128, 3) uint8."""
    rng = np.random.default_rng((config.seed, step))
    return np.stack([draw(training_scene(rng))[0] for _ in range(config.batch)])


def train(config: AutoencoderConfig, out: Path, machine: Machine | None = None) -> Path:
    """Train or go on; returns the file of the averaged weights. Ctrl-C finishes the step, saves and raises."""
    run, machine = Run(out, "autoencoder", config), machine or Machine()
    torch.manual_seed(config.seed)
    model = Autoencoder.fresh().to(machine.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    session = Session(run, model, optimiser, Budget(config.minutes))
    with at_work(machine) as (workers, stop):
        drawn = workers.ahead(drawings, ((config, step) for step in itertools.count(session.step)))
        while (share := session.budget.share) < 1 and not stop.asked:
            pictures = to_tensor(next(drawn), machine.device)
            optimiser.param_groups[0]["lr"] = session.budget.rate(config.rate, session.step, share=share)
            generator = machine.generator(config.seed * 1_000_003 + session.step)
            with machine.autocast(config.bf16):
                loss, mse = loss_of(model, pictures, config.noise, generator)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            session.step += 1
            session.average.update(model, session.step)
            session.log(loss=loss.detach(), psnr=10 * (4 / mse.detach()).log10())
            session.checkpoint()
        session.checkpoint(True)
    session.log(True, psnr_unseen=evaluate(session.average.module, list(UNSEEN)), latent_scale=SCALE)
    return run.finish(session.average.module.state_dict())
