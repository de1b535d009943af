"""Trains f_Adapter (Eq. 6) and keeps the best token. Knows nothing of the host: the loss arrives as a callable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import Tensor

from ..errors import TrainingError
from .config import PLACEHOLDER, AdaptConfig
from .norms import Sphere, Stepper
from .objective import Draw, NoisySample
from .start import WordStatistics
from .token import AudioToken

LOSS_SCALE_STEP = 4.0
DIVERGED = 200.0  # times its size at the start; textual inversion is known to grow words fiftyfold

__all__ = ["PLACEHOLDER", "AdaptConfig", "AdapterTrainer", "WordStatistics"]


class AdapterTrainer:
    """One run. `best` is a usable token at every moment, also after an exception left `run`."""

    def __init__(
        self,
        start: AudioToken,
        draw: Draw,
        loss: Callable[[dict[str, Tensor], NoisySample], Tensor],  # Eq. 6 for the vectors of A*
        config: AdaptConfig,
        norms: dict[str, float] | None = None,  # |v*| that norm control keeps, by text encoder; s where absent
        others: tuple[AudioToken, ...] = (),  # the same start with the other sounds of the class
        *,
        loss_scale: float = 1.0,  # loss scaling, for gradients in fp16
    ):
        config.validate()
        self.config, self._loss, self._draw = config, loss, draw
        self._starts = (start, *others)
        self._adapters = {key: a.detach().clone().requires_grad_(True) for key, a in start.adapters.items()}
        spheres = {
            key: Sphere.around(a.detach(), start.sound(key), (norms or {}).get(key) or start.scales[key])
            for key, a in self._adapters.items()
        }
        # With `sound_only` there is nothing to train.
        control = config.norm_control if config.mode != "sound_only" else "free"
        self.stepper = Stepper(self._adapters, spheres, control, config.learning_rate)
        self.generator = torch.Generator().manual_seed(config.seed)
        held_out_generator = torch.Generator().manual_seed(config.seed + 1)
        self._held_out = draw.held_out(config.held_out, held_out_generator)
        self.losses: list[float] = []  # of each step
        self.held_out_losses: list[tuple[int, float]] = []  # (steps done, mean held-out loss)
        self.best = self.current()
        self._sizes = {key: float(rows.norm(dim=-1).mean()) for key, rows in self.best.vectors.items()}
        self.best_step = 0
        self.loss_scale = loss_scale
        self.stopped = ""  # why the run ended before its last step
        self._smoothed: list[float] = []  # held-out losses as they choose the best token
        self._drawn = self.generator.get_state()  # the generator after the last whole step

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def adapters(self) -> dict[str, Tensor]:
        """f_Adapter now, by text encoder: key -> (n, width)."""
        return {key: a.detach().clone() for key, a in self._adapters.items()}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return bool(self.stopped) or self.config.mode == "sound_only" or self.step >= self.config.steps

    @property
    def draw(self) -> Draw:
        """What is drawn from."""
        return self._draw

    @property
    def starts(self) -> tuple[AudioToken, ...]:
        """The token of each sound at step 0."""
        return self._starts

    def run(self, on_step: Callable[[AdapterTrainer], None]) -> AudioToken:
        """Train to the end and return the best token. `on_step` is called after each step and may raise to stop."""
        self._look_if_due()
        while not self.finished:
            if self._train_one_step():
                self._look_if_due()
                on_step(self)
        return self.best

    def _look_if_due(self) -> None:
        """Look at the held-out samples, unless a continued run has done so at this step already."""
        due = self.step % self.config.evaluate_every == 0 or self.step == self.config.steps
        if due and (not self.held_out_losses or self.held_out_losses[-1][0] != self.step):
            self._look()

    def current(self, sound: int = 0) -> AudioToken:
        """The token as it is now."""
        return replace(self._starts[sound], adapters=self.adapters)

    def held_out_loss(self, token: AudioToken) -> float:
        """Mean loss of one token on the held-out samples, whichever sound they belong to."""
        return self._mean_held_out(lambda sound: token)

    def _mean_held_out(self, token_of: Callable[[int], AudioToken]) -> float:
        with torch.no_grad():
            # The same tensors for every sample, so that the loss can tell that the word is the same.
            vectors = {sound: token_of(sound).vectors for sound in {s.sound for s in self._held_out}}
            values = [float(self._loss(vectors[s.sound], s)) for s in self._held_out]
        return sum(values) / len(values)

    def _train_one_step(self) -> bool:
        """One optimiser step; False if it made none: a loss that is not a number, or gradients too large for their type."""
        self.stepper.clear()
        total = 0.0
        scale = self.loss_scale
        for _ in range(self.config.accumulation):
            sample = self._draw.sample(self.config.batch_size, self.generator)
            loss = self._loss(replace(self._starts[sample.sound], adapters=self._adapters).vectors, sample)
            total += float(loss.detach()) / self.config.accumulation
            if not math.isfinite(total):
                self._stop_at(total)
                return False
            (loss * (scale / self.config.accumulation)).backward()
        if scale != 1.0 and not self._unscale(scale):
            return False
        self.stepper.step()
        self.losses.append(total)
        self._drawn = self.generator.get_state()
        return True

    def _unscale(self, scale: float) -> bool:
        """Bring the gradients to their size; False, and a smaller scale for the same step again, if they overflowed."""
        gradients = [a.grad for a in self._adapters.values() if a.grad is not None]
        if all(bool(torch.isfinite(g).all()) for g in gradients):
            for gradient in gradients:
                gradient.div_(scale)
            return True
        self.rewind()
        self.loss_scale = scale / LOSS_SCALE_STEP
        if self.loss_scale <= 1.0:
            self._stop_at(math.nan)
        return False

    def rewind(self) -> None:
        """Go back to the end of the last whole step."""
        self.stepper.clear()
        self.generator.set_state(self._drawn)

    def example(self) -> NoisySample:
        """A sample of the shape of a step's, drawn without moving the run."""
        return self._draw.sample(self.config.batch_size, torch.Generator().manual_seed(0))

    def _stop_at(self, value: float) -> None:
        """End with the best token so far; raise `TrainingError` if there is none."""
        if not self._smoothed:
            raise TrainingError(
                f"The loss became {value} at step {self.step + 1}",
                "It must not be NaN or infinite",
                "Lower the learning rate, or load the model in fp32 or bf16",
            )
        self.stopped = f"the loss became {value} at step {self.step + 1}"

    def _look(self) -> None:
        """Compare the token on the held-out samples and keep it if it is the best so far."""
        mean = self._mean_held_out(self.current)
        self.held_out_losses.append((self.step, mean))
        if not math.isfinite(mean):
            return
        growth = self._growth()
        if growth > DIVERGED:
            # A word of that size drowns out the rest of the prompt in the text encoder.
            self.stopped = f"the word grew to {growth:.0f} times its initial size; lower the learning rate"
            return
        share = self.config.smoothing
        smoothed = share * self._smoothed[-1] + (1 - share) * mean if self._smoothed else mean
        if smoothed < min(self._smoothed, default=math.inf):
            self.best = replace(self.current(), metadata=self._describe(mean))
            self.best_step = self.step
        self._smoothed.append(smoothed)
        since = len(self._smoothed) - 1 - self._smoothed.index(min(self._smoothed))
        if self.config.patience and since >= self.config.patience:
            self.stopped = f"no better word since step {self.best_step}"

    def _growth(self) -> float:
        """How many times as large as at the start the word is now, by the text encoder where it grew most."""
        sizes = {key: float(rows.detach().norm(dim=-1).mean()) for key, rows in self.current().vectors.items()}
        return max(sizes[key] / max(self._sizes[key], 1e-6) for key in sizes)

    def _describe(self, held_out_loss: float) -> dict[str, str]:
        return {
            **self._starts[0].metadata,
            "config": json.dumps(asdict(self.config), sort_keys=True),
            "step": str(self.step),
            "held_out_loss": f"{held_out_loss:.6f}",
        }

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Everything that a run needs to go on after its last whole step: tensors, and a record for JSON."""
        tensors = {f"adapter.{key}": a for key, a in self.adapters.items()}
        tensors |= {f"best.{key}": a.detach().clone() for key, a in self.best.adapters.items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.stepper.state().items()}
        tensors |= {"generator": self._drawn.clone()}
        names = ("losses", "held_out_losses", "best_step", "stopped", "_smoothed", "loss_scale")
        return tensors, {**{name: getattr(self, name) for name in names}, "best": self.best.metadata}

    def restore(self, tensors: dict[str, Tensor], record: dict) -> None:
        """Take over what `state` gave; a run that goes on from there is the same, bit for bit, on the CPU.

        Raises `ValueError`, `KeyError` or `TypeError` for anything else, and then leaves the run as it is.
        """

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t.clone() for n, t in tensors.items() if n.startswith(prefix)}

        adapters, best, moments = part("adapter."), part("best."), part("optimizer.")
        shapes = {key: a.shape for key, a in self._adapters.items()}
        for name, found in (("adapter", adapters), ("best", best)):
            if {key: a.shape for key, a in found.items()} != shapes:
                raise ValueError(f"its {name} has other text encoders or sizes")
        self.stepper.check(moments)
        state, held_out = tensors["generator"].clone(), record["held_out_losses"]
        taken = {
            "losses": [float(value) for value in record["losses"]],
            "_smoothed": [float(value) for value in record["_smoothed"]],
            "held_out_losses": [(int(step), float(value)) for step, value in held_out],
            "best_step": int(record["best_step"]),
            "stopped": str(record["stopped"]),
            "loss_scale": float(record["loss_scale"]),
            "best": replace(self._starts[0], adapters=best, metadata=dict(record["best"])),
        }
        torch.Generator().set_state(state)  # raises for a state that is none
        # From here on nothing can fail: half a run would be worse than none.
        with torch.no_grad():
            for key, adapter in self._adapters.items():
                adapter.copy_(adapters[key])
        self.stepper.restore(moments)
        self.generator.set_state(state)
        self._drawn = state
        for name, value in taken.items():
            setattr(self, name, value)
