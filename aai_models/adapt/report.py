"""The result of a training in figures and sentences."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .token import AudioToken, lift
from .trainer import AdapterTrainer

OTHER_SOUND_SEED = 1


@dataclass(frozen=True)
class Report:
    """Figures of one training."""

    steps: int  # steps done
    total: int  # steps asked for
    chosen: int  # the step of the returned token
    start_loss: float  # held-out loss at step 0
    chosen_loss: float  # held-out loss of the returned token
    other_sound_loss: float  # held-out loss of the same adapter with another sound
    sound_share: dict[str, float]  # |s f_a| / |v*| for each text encoder
    other_sound_cosine: dict[str, float]  # between v* with this and with another sound
    stopped: str  # why it ended early, or nothing
    notes: tuple[str, ...] = ()  # of the word that it began at, and of the bridge

    def text(self) -> str:
        """The figures in sentences."""
        first = f"Kept step {self.chosen} of {self.steps}: held-out loss {self.chosen_loss:.4f}"
        lines = [f"{first}, {self.start_loss:.4f} at the start."]
        if self.stopped:
            lines.append(f"Ended early: {self.stopped}.")
        lines.append(f"Another sound in the same word: held-out loss {self.other_sound_loss:.4f}.")
        for key, share in self.sound_share.items():
            cosine = self.other_sound_cosine[key]
            lines.append(f"{key}: |s f_a| / |v*| {share:.2f}; cosine to the word of another sound {cosine:.2f}.")
        return "\n".join([*lines, *self.notes])


def report(trainer: AdapterTrainer) -> Report:
    """The figures of a run that has ended; evaluates the loss on the held-out samples once more."""
    token, other = trainer.best, other_sound(trainer.best)
    cosines = {
        key: float(F.cosine_similarity(rows, other.vectors[key], dim=-1).mean()) for key, rows in token.vectors.items()
    }
    looks = dict(trainer.held_out_losses)
    return Report(
        steps=trainer.step,
        total=trainer.config.steps,
        chosen=trainer.best_step,
        start_loss=trainer.held_out_losses[0][1],
        chosen_loss=looks[trainer.best_step],
        other_sound_loss=trainer.held_out_loss(other),
        sound_share=token.sound_share(),
        other_sound_cosine=cosines,
        stopped=trainer.stopped,
    )


def other_sound(token: AudioToken) -> AudioToken:
    """The same adapter with a sound at a right angle to its own, the same one on every call."""
    directions = {
        key: _right_angle(token.directions.get(key, lift(token.audio_feature, adapter.shape[-1])))
        for key, adapter in token.adapters.items()
    }
    return replace(token, directions=directions)


def _right_angle(direction: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(OTHER_SOUND_SEED)
    unit = F.normalize(direction, dim=-1)
    drawn = torch.randn(unit.shape, generator=generator).to(unit)
    along = (drawn * unit).sum(-1, keepdim=True)
    return F.normalize(drawn - along * unit, dim=-1) * direction.norm(dim=-1, keepdim=True)
