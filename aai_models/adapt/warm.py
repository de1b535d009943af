"""A start close to the pictures: the word is first turned until its text feature meets their image features.

Source: QuickEmbedding (E. Smith, 2025): spherical distance between the projected features of CLIP's two towers, 100
steps, a rate that falls linearly. No diffusion model takes part, so a step costs a fraction of one of Eq. 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .norms import Sphere
from .token import AudioToken

STEPS = 100
ANGLE = 0.1  # radians of the first step


def spherical_distance(text: Tensor, images: Tensor) -> Tensor:
    """Mean of 2 asin(|x - y| / 2)^2 over unit features: text (D,), images (R, D) -> scalar."""
    gap = F.normalize(text, dim=-1) - F.normalize(images, dim=-1)
    # The root has no slope at 0 and the arc none at the opposite pole.
    half = (gap.square().sum(-1) + 1e-12).sqrt() / 2
    return (2 * torch.asin(half.clamp(max=1 - 1e-6)).square()).mean()


def warm_start(
    start: AudioToken,
    norms: dict[str, float],
    distance: Callable[[dict[str, Tensor], str], Tensor],
    prompts: tuple[str, ...],
    seed: int,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[AudioToken, list[float]]:
    """Turn the rows of v* of the text encoders `norms` names (key -> |v*|) downhill on `distance(vectors, prompt)`.

    Returns the token of the smallest distance that was met, and the distance of each step. `on_step` may raise to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    adapters = {key: start.adapters[key].detach().clone() for key in norms}
    drawn = {key: torch.randn(a.shape, generator=generator) * a.shape[-1] ** -0.5 for key, a in adapters.items()}
    # A row without any direction cannot be turned.
    adapters = {
        key: a + norms[key] * drawn[key] * ((a + start.sound(key)).norm(dim=-1, keepdim=True) < 1e-8)
        for key, a in adapters.items()
    }
    spheres = {key: Sphere.around(a, start.sound(key), norms[key]) for key, a in adapters.items()}
    adapters = {key: spheres[key].retract(a) for key, a in adapters.items()}
    best, distances = start, []
    for step in range(STEPS):
        leaves = {key: a.requires_grad_(True) for key, a in adapters.items()}
        prompt = prompts[int(torch.randint(0, len(prompts), (1,), generator=generator))]
        token = replace(start, adapters={**start.adapters, **leaves})
        value = distance(token.vectors, prompt)
        if not distances or float(value.detach()) < min(distances):
            best = replace(start, adapters={**start.adapters, **{key: a.detach().clone() for key, a in leaves.items()}})
        distances.append(float(value.detach()))
        slopes = torch.autograd.grad(value, list(leaves.values()))
        angle = ANGLE * (1 - step / STEPS)
        with torch.no_grad():
            adapters = {
                key: spheres[key].turn(a.detach(), slope, angle)
                for (key, a), slope in zip(leaves.items(), slopes, strict=True)
            }
        on_step(step + 1, STEPS)
    return best, distances
