"""Previews of a training: the loss curve and small pictures of the word, while it runs and after."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....aai_models.adapt.config import PLACEHOLDER, AdaptConfig
from ....aai_models.adapt.curve import loss_curve
from ....aai_models.adapt.trainer import AdapterTrainer
from ....aai_models.draw import contact_sheet
from .loss import DiffusionLoss

PREVIEW_SIZE = 512  # longest side in pixels of what is sent to the screen
CURVE_EVERY = 5  # steps between two curves on the screen
SHEET_PREVIEWS = 8  # most previews on the sheet


@dataclass(frozen=True)
class Options:
    """What a run shows and how often it is written; changes nothing about the word."""

    checkpoint_every: int = 25  # steps between two checkpoints
    preview_every: int = 0  # steps between two pictures of the word; 0: none
    preview_steps: int = 8  # sampling steps of such a picture
    low_memory: bool = False  # compute blocks again on the way back, also where memory does not ask for it


@dataclass
class Previews:
    """Draws the word with a noise that never changes, and remembers what it drew."""

    loss: DiffusionLoss
    config: AdaptConfig
    shape: tuple[int, ...]  # of a latent, (C, h, w)
    options: Options
    drawn: list[tuple[int, Tensor]] = field(default_factory=list)  # (step, latent (1, C, h, w))

    def after(self, trainer: AdapterTrainer):
        """The preview of a step as the host's progress bar takes it, or None."""
        every = self.options.preview_every
        if every and trainer.step % every == 0:
            self.drawn.append((trainer.step, self.loss.draw(trainer.current().vectors, self.prompt, self.shape, self)))
            return ("JPEG", self.loss.quick_look(self.drawn[-1][1]).resize((256, 256)), PREVIEW_SIZE)
        if trainer.step % CURVE_EVERY == 0 or trainer.step == trainer.config.steps:
            return ("JPEG", Curve.of(trainer).draw(), PREVIEW_SIZE)
        return None

    @property
    def prompt(self) -> str:
        """The sentence that is drawn."""
        return self.config.prompt if PLACEHOLDER in self.config.prompt else f"a photo of {PLACEHOLDER}"

    @property
    def steps(self) -> int:
        return self.options.preview_steps


@dataclass(frozen=True)
class Curve:
    """The losses of a run so far."""

    losses: list[float]  # of each step
    held_out: list[tuple[int, float]]  # (steps done, loss on the held-out samples)
    chosen: int  # step of the best word
    total: int  # steps asked for

    @classmethod
    def of(cls, trainer: AdapterTrainer) -> Curve:
        return cls(trainer.losses, trainer.held_out_losses, trainer.best_step, trainer.config.steps)

    def draw(self) -> Image.Image:
        return loss_curve(self.losses, self.held_out, self.chosen, self.total)


def sheet(vae, model, groups, drawn: list[tuple[int, Tensor]], curve: Curve) -> Tensor:
    """References, previews over time (step, latent) and the curve on one picture, (1, H, W, 3) in 0..1."""
    pictures = [_picture(image) for group in groups for batch in group for image in batch]
    captions = [f"reference {number}" for number in range(1, len(pictures) + 1)]
    chosen = min((step for step, _ in drawn), key=lambda s: abs(s - curve.chosen), default=None)
    for step, latent in _spread(drawn):
        with torch.no_grad():
            decoded = vae.decode(model.model.process_latent_out(latent))
        pictures.append(_picture(decoded[0]))
        captions.append(f"step {step}" + (" (nearest to the chosen one)" if step == chosen else ""))
    pictures.append(curve.draw())
    captions.append(f"loss; chosen: step {curve.chosen}")
    array = np.asarray(contact_sheet(pictures, captions), dtype=np.float32) / 255
    return torch.from_numpy(array)[None]


def _spread(drawn: list[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
    if len(drawn) <= SHEET_PREVIEWS:
        return drawn
    return [drawn[round(i * (len(drawn) - 1) / (SHEET_PREVIEWS - 1))] for i in range(SHEET_PREVIEWS)]


def _picture(pixels: Tensor) -> Image.Image:
    """(H, W, C) in 0..1 -> a picture."""
    colour = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].expand(*pixels.shape[:-1], 3)
    return Image.fromarray((colour.float().clamp(0, 1) * 255).round().byte().cpu().numpy())
