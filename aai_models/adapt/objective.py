"""Eq. 6: the latent diffusion loss, for every parametrisation that predicts from x = f(x_0, noise, sigma)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import require_policy


@dataclass(frozen=True)
class References:
    """The pictures of one training, R of them, on the CPU."""

    latents: Tensor  # as the diffusion model sees them, (R, C, H, W) float32
    masks: Tensor | None = None  # what counts of each, (R, 1, H, W) in 0..1
    sounds: tuple[int, ...] = ()  # which sound each belongs to; empty: all to the first

    def of_sound(self, sound: int) -> Tensor:
        """Indices of the pictures of one sound."""
        owners = torch.tensor(self.sounds or (0,) * self.latents.shape[0])
        return (owners == sound).nonzero().flatten()


@dataclass(frozen=True)
class NoisySample:
    """What one evaluation of Eq. 6 draws: z, t, epsilon, and the sentence."""

    latents: Tensor  # z_0, (B, C, H, W)
    noise: Tensor  # epsilon, (B, C, H, W)
    sigmas: Tensor  # noise level of t, (B,)
    mask: Tensor | None = None  # (B, 1, H, W) in 0..1
    prompt: str = ""  # with the placeholder
    sound: int = 0  # whose word stands in it


def diffusion_loss(noisy: Tensor, denoised: Tensor, sample: NoisySample, *, flow: bool = False) -> Tensor:
    """|| epsilon - epsilon_theta ||^2 (Eq. 6) from the denoised estimate; (B, C, H, W) each; returns a float32 scalar.

    With x = x_0 + sigma epsilon (eps and v models in this parametrisation) (x - D) / sigma is epsilon_theta; with
    x = (1 - sigma) x_0 + sigma epsilon (`flow`) it is the velocity, whose target is epsilon - x_0. A mask weighs the
    squared errors; they are divided by its sum.
    """
    sigmas = sample.sigmas.view(-1, 1, 1, 1).float()
    prediction = (noisy.float() - denoised.float()) / sigmas
    target = (sample.noise - sample.latents if flow else sample.noise).float()
    if sample.mask is None:
        return F.mse_loss(prediction, target)
    weights = sample.mask.float().expand_as(target)
    return (weights * (prediction - target).square()).sum() / weights.sum().clamp_min(1e-6)


def draw_steps(policy: str, count: int, total: int, generator: torch.Generator) -> Tensor:
    """`count` timesteps in 0..total-1 (0: least noise), (count,) int64.

    `uniform` is the paper's. `stratified` draws one of each of `count` equal parts of the schedule, moved together, so
    that a batch covers it. `composition` prefers high noise, where the layout is decided (density 3 t^2).
    `middle` is logit-normal (Stable Diffusion 3's choice for flow models).
    """
    require_policy("timesteps", policy, ("uniform", "stratified", "composition", "middle"))
    if policy == "uniform":
        return torch.randint(0, total, (count,), generator=generator)
    if policy == "middle":
        share = torch.sigmoid(torch.randn(count, generator=generator))
    elif policy == "composition":
        share = torch.rand(count, generator=generator) ** (1 / 3)
    else:
        share = (torch.arange(count) + torch.rand(1, generator=generator)) / count
    return (share * total).long().clamp(0, total - 1)


@dataclass(frozen=True)
class Draw:
    """What is drawn from for each evaluation of Eq. 6."""

    references: References
    sigmas: Tensor  # the model's noise levels, (T,) float32
    prompts: tuple[str, ...]
    timesteps: str = "uniform"

    @property
    def sounds(self) -> int:
        """Number of sounds."""
        return max(self.references.sounds, default=0) + 1

    def sample(self, batch: int, generator: torch.Generator) -> NoisySample:
        """Draw `batch` latents of one sound, with timesteps and noises, and a sentence."""
        sound = int(torch.randint(0, self.sounds, (1,), generator=generator)) if self.sounds > 1 else 0
        mine = self.references.of_sound(sound)
        which = mine[torch.randint(0, mine.shape[0], (batch,), generator=generator)]
        when = draw_steps(self.timesteps, batch, self.sigmas.shape[0], generator)
        prompt = int(torch.randint(0, len(self.prompts), (1,), generator=generator)) if len(self.prompts) > 1 else 0
        noise = torch.randn((batch, *self.references.latents.shape[1:]), generator=generator)
        return self._gather(which, when, noise, prompt, sound)

    def held_out(self, count: int, generator: torch.Generator) -> list[NoisySample]:
        """A fixed set of `count` single samples whose timesteps cover the schedule evenly, to compare tokens on."""
        samples = []
        for index in range(count):
            sound = index % self.sounds
            mine = self.references.of_sound(sound)
            which = mine[index // self.sounds % mine.shape[0]].view(1)
            when = torch.tensor([int((index + 0.5) / count * self.sigmas.shape[0])])
            noise = torch.randn((1, *self.references.latents.shape[1:]), generator=generator)
            samples.append(self._gather(which, when, noise, index % len(self.prompts), sound))
        return samples

    def _gather(self, which: Tensor, when: Tensor, noise: Tensor, prompt: int, sound: int) -> NoisySample:
        masks = self.references.masks
        mask = None if masks is None else masks[which]
        return NoisySample(self.references.latents[which], noise, self.sigmas[when], mask, self.prompts[prompt], sound)
