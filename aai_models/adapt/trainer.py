"""Trains f_Adapter (Eq. 6) and keeps the best token. Knows nothing of the host: the loss arrives as a callable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ..errors import TrainingError
from .objective import NoisySample, draw_samples, held_out_samples
from .token import AudioToken

PLACEHOLDER = "<A*>"


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of one training run; saved inside the token."""

    steps: int = 500  # optimiser steps
    learning_rate: float = 5e-3  # of AdamW, constant
    batch_size: int = 1  # samples a step
    seed: int = 0  # of the adapter's start, the timesteps and the noise
    prompt: str = "a photo of <A*>"  # the paper's; <A*> is where the word stands
    resolution: int = 512  # side to which reference pictures are cropped, in pixels
    evaluate_every: int = 20  # steps between two looks at the held-out samples
    held_out: int = 4  # fixed (timestep, noise) pairs that choose the best token

    def validate(self) -> None:
        """Raise `TrainingError` for settings that cannot work."""
        if PLACEHOLDER not in self.prompt:
            raise TrainingError(
                f"The training prompt {self.prompt!r} has no {PLACEHOLDER}",
                f"{PLACEHOLDER} marks where the word stands",
                f'Write for instance "a photo of {PLACEHOLDER}"',
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise TrainingError(
                f"The learning rate is {self.learning_rate}", "It must be a positive number", "0.005 is a good start"
            )


@dataclass(frozen=True)
class WordStatistics:
    """What the vocabulary of one text encoder looks like."""

    norm: float  # median norm of its word rows
    std: float  # standard deviation of their coordinates
    width: int  # values in a row


def initial_token(audio_feature: Tensor, words: dict[str, WordStatistics], seed: int) -> AudioToken:
    """f_Adapter ~ N(0, std(E)^2), one vector for each text encoder; s is the median norm of its words."""
    generator = torch.Generator().manual_seed(seed)
    adapters = {key: torch.randn(1, word.width, generator=generator) * word.std for key, word in sorted(words.items())}
    scales = {key: word.norm for key, word in words.items()}
    return AudioToken(audio_feature.detach().clone().float().cpu(), adapters, scales)


class AdapterTrainer:
    """One run. `best` is a usable token at every moment, also after an exception left `run`."""

    def __init__(
        self,
        start: AudioToken,
        latents: Tensor,  # references, (R, C, H, W) float32 on CPU, as the diffusion model sees them
        sigmas: Tensor,  # the model's noise levels, (T,) float32 on CPU
        loss: Callable[[dict[str, Tensor], NoisySample], Tensor],  # Eq. 6 for the vectors of A*
        config: AdaptConfig,
    ):
        config.validate()
        self.config, self._loss, self._start = config, loss, start
        self._latents, self._sigmas = latents, sigmas
        self._adapters = {key: a.detach().clone().requires_grad_(True) for key, a in start.adapters.items()}
        self._optimizer = torch.optim.AdamW(list(self._adapters.values()), lr=config.learning_rate, weight_decay=0.0)
        self._generator = torch.Generator().manual_seed(config.seed)
        held_out_generator = torch.Generator().manual_seed(config.seed + 1)
        self._held_out = held_out_samples(latents, sigmas, config.held_out, held_out_generator)
        self.losses: list[float] = []  # of each step
        self.held_out_losses: list[tuple[int, float]] = []  # (steps done, mean held-out loss)
        self.best = start
        self.best_step = 0

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    def run(self, on_step: Callable[[AdapterTrainer], None]) -> AudioToken:
        """Train to the end and return the best token. `on_step` is called after each step and may raise to stop."""
        self._look()
        while self.step < self.config.steps:
            self._train_one_step()
            if self.step % self.config.evaluate_every == 0 or self.step == self.config.steps:
                self._look()
            on_step(self)
        return self.best

    def _current(self) -> AudioToken:
        return replace(self._start, adapters={key: a.detach().clone() for key, a in self._adapters.items()})

    def _train_one_step(self) -> None:
        sample = draw_samples(self._latents, self._sigmas, self.config.batch_size, self._generator)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(replace(self._start, adapters=self._adapters).vectors, sample)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss became {value} at step {self.step + 1}",
                "It must stay a finite number",
                "Lower the learning rate, or load the model in fp32 or bf16",
            )
        loss.backward()
        self._optimizer.step()
        self.losses.append(value)

    def _look(self) -> None:
        """Compare the token on the held-out samples and keep it if it is the best so far."""
        token = self._current()
        with torch.no_grad():
            values = [float(self._loss(token.vectors, sample)) for sample in self._held_out]
        mean = sum(values) / len(values)
        if math.isfinite(mean) and mean < min((v for _, v in self.held_out_losses), default=math.inf):
            self.best = replace(token, metadata=self._describe(mean))
            self.best_step = self.step
        self.held_out_losses.append((self.step, mean))

    def _describe(self, held_out_loss: float) -> dict[str, str]:
        settings = json.dumps(asdict(self.config), sort_keys=True)
        return {"config": settings, "step": str(self.step), "held_out_loss": f"{held_out_loss:.6f}"}

    def identity(self) -> str:
        """A short hash of what decides the outcome: sound, pictures, settings, start."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for tensor in (self._start.audio_feature, self._latents, *self._start.adapters.values()):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]
