"""How a step moves v* and what becomes of its norm: `free`, `renorm`, `dti`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PRIOR = 1e-4  # kappa: pull towards the initial direction, of Directional Textual Inversion's SDXL setting


@dataclass(frozen=True)
class Sphere:
    """The sphere that the rows of v* of one text encoder stay on."""

    sound: Tensor  # s f_a, (width,)
    norm: float  # its radius
    prior: Tensor  # initial direction of each row, (n, width), unit norm

    @classmethod
    def around(cls, adapter: Tensor, sound: Tensor, norm: float) -> Sphere:
        """The sphere of a start. `adapter` (n, width), `sound` (width,)."""
        return cls(sound, norm, F.normalize(adapter + sound, dim=-1))

    def retract(self, adapter: Tensor) -> Tensor:
        """The adapter whose v* has the same direction and the sphere's norm: v* <- norm v* / |v*|."""
        return self.norm * F.normalize(adapter + self.sound, dim=-1) - self.sound

    def turn(self, adapter: Tensor, gradient: Tensor, angle: float) -> Tensor:
        """One step of Riemannian descent on the directions of v* (Directional Textual Inversion).

        The gradient loses `PRIOR` times the initial direction and its radial part, and is normalised, so that each
        row turns by `atan(angle)` radians.
        """
        direction = F.normalize(adapter + self.sound, dim=-1)
        slope = gradient - PRIOR * self.prior
        slope = slope - (slope * direction).sum(-1, keepdim=True) * direction
        turned = F.normalize(direction - angle * F.normalize(slope, dim=-1), dim=-1)
        return self.norm * turned - self.sound


class Stepper:
    """Moves the adapters along their gradients by one norm control; its state is that of AdamW, or none."""

    def __init__(self, adapters: dict[str, Tensor], spheres: dict[str, Sphere], control: str, learning_rate: float):
        self._adapters, self._spheres, self._control, self._rate = adapters, spheres, control, learning_rate
        # Weight decay would pull v* towards a word that does not exist.
        self._adam = torch.optim.AdamW(list(adapters.values()), lr=learning_rate, weight_decay=0.0)
        if control != "free":
            self._each(lambda sphere, adapter: sphere.retract(adapter))

    def clear(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move every adapter along its gradient."""
        if self._control == "dti":
            self._each(lambda sphere, adapter: sphere.turn(adapter, adapter.grad, self._rate))
            return
        self._adam.step()
        if self._control == "renorm":
            self._each(lambda sphere, adapter: sphere.retract(adapter))

    @torch.no_grad()
    def _each(self, move) -> None:
        for key, adapter in self._adapters.items():
            adapter.copy_(move(self._spheres[key], adapter))

    def state(self) -> dict[str, Tensor]:
        """AdamW's moments as named tensors."""
        return {
            f"{key}.{name}": value.detach().clone()
            for key, adapter in self._adapters.items()
            for name, value in self._adam.state[adapter].items()
        }

    def check(self, state: dict[str, Tensor]) -> None:
        """Raise `ValueError` unless `state` holds all moments of every adapter in its shape, or none."""
        names = {"step": (), "exp_avg": None, "exp_avg_sq": None}  # None: the adapter's own shape
        expected = {
            f"{key}.{name}": tuple(adapter.shape) if shape is None else shape
            for key, adapter in self._adapters.items()
            for name, shape in names.items()
        }
        if state and {name: tuple(value.shape) for name, value in state.items()} != expected:
            raise ValueError("its optimizer has other tensors")

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for key, adapter in self._adapters.items():
            prefix = f"{key}."
            mine = {n.removeprefix(prefix): t.clone() for n, t in state.items() if n.startswith(prefix)}
            if mine:
                self._adam.state[adapter] = mine
