"""How long the pocket models take: to load, and for a picture as the examples make it."""

from __future__ import annotations

import statistics
import time

import comfy.sample
import torch
from aai_pack.nodes.host.base.prompt_words import encode
from aai_pack.nodes.host.pocket import models as pocket

from .exam import Exam
from .figures import Row

ROUNDS, STEPS = 5, 20


def seconds(work) -> list[float]:
    """Seconds of `ROUNDS` calls."""
    taken = []
    for _ in range(ROUNDS):
        started = time.monotonic()
        work()
        taken.append(time.monotonic() - started)
    return taken


@torch.inference_mode()
def speed(_: Exam) -> list[Row]:
    """Loading, and one picture of 128 pixels and 20 steps from a prompt, with guidance."""
    models = pocket.load_pocket()

    def picture() -> None:
        model, clip, vae, *_ = models
        told, empty = encode(clip, "a photo of a dog on a beach", {}), encode(clip, "", {})
        latent = torch.zeros(1, 4, 16, 16)
        noise = comfy.sample.prepare_noise(latent, 1)
        settings = (STEPS, 5.0, "euler", "normal", told, empty, latent)
        vae.decode(comfy.sample.sample(model, noise, *settings, disable_pbar=True, seed=1))

    picture()
    rows = []
    for name, work, goal in (("to load the models", pocket.load_pocket, "< 3"), ("for a picture", picture, "< 4")):
        taken = seconds(work)
        row = Row(f"seconds {name}, median", statistics.median(taken), (min(taken), max(taken)), ROUNDS, goal)
        rows.append(row)
    return rows
