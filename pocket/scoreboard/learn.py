"""Words learned from five references, several at once: Eq. 6 in plain PyTorch on the pocket models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..models.diffusion import alphas_bar
from ..models.text import key_bias
from ..training.pictures import to_tensor
from ..world.names import NAMED, UNNAMED, UNSEEN
from ..world.scene import draw, random_scene
from .figures import Row, share

KNOWN = ("rooster", "bell", "train")
STEPS, RATE, EACH = 150, 0.02, 3  # steps, Adam's learning rate, references of each word in a step
REFERENCES = 5


def learn(artist, words: Tensor, references: list[np.ndarray], seed: int = 0, steps: int = STEPS) -> Tensor:
    """f_Adapter of each word (N, 768): `words` (N, 768) are its start, `references` its pictures (n, 128, 128, 3)."""
    adapters = torch.zeros_like(words, requires_grad=True)
    optimiser = torch.optim.Adam([adapters], lr=RATE)
    with torch.no_grad():
        latents = torch.stack([artist.autoencoder.encoder(to_tensor(pictures)) for pictures in references])
    generator, bar = torch.Generator().manual_seed(seed), alphas_bar()
    own = torch.arange(len(words)).repeat_interleave(EACH)
    for _ in range(steps):
        chosen = torch.randint(latents.shape[1], (len(own),), generator=generator)
        timesteps = torch.randint(0, len(bar), (len(own),), generator=generator)
        noise = torch.randn(len(own), 4, 16, 16, generator=generator)
        level = bar[timesteps].view(-1, 1, 1, 1)
        states = artist.states(["a picture of a *"] * len(own), (words + adapters)[own][:, None])[0]
        noisy = level.sqrt() * latents[own, chosen] + (1 - level).sqrt() * noise
        loss = (artist.unet(noisy, timesteps, states, key_bias()) - noise).square().mean((1, 2, 3)).sum() / EACH
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return adapters.detach()


def trained_words(exam) -> list[Row]:
    """Words of known, unnamed and never-seen things from five references, and the same adapters under other sounds."""
    from .rows import FIRST_SOUND, judge_things

    artist, things = exam.artist, [*KNOWN, *UNNAMED, *UNSEEN]
    rng = np.random.default_rng(76)
    references = [np.stack([draw(random_scene(rng, [t]))[0] for _ in range(REFERENCES)]) for t in things]
    sounds = exam.words(things, FIRST_SOUND + 17000)[:, 0]
    adapters = learn(artist, sounds, references)
    alone = learn(artist, artist.row("thing").expand_as(sounds).clone(), references) + artist.row("thing")
    other = exam.words(things, FIRST_SOUND + 18000)[:, 0]
    count = 2 * exam.repeats
    modes = {
        "sound and adapter": sounds + adapters,
        "adapter without sound": alone,
        "sound without adapter": sounds,
        "the adapter under another sound of the class": other + adapters,
    }
    rows = []
    for mode, words in modes.items():
        asked = [thing for thing in things for _ in range(count)]
        drawn = artist.paint(["a photo of a *"] * len(asked), words.repeat_interleave(count, 0)[:, None], seed=21)
        said = judge_things(exam, drawn)
        for kind, group in (("known", NAMED), ("unnamed", UNNAMED), ("never-seen", UNSEEN)):
            hits = [s == t for s, t in zip(said, asked, strict=True) if t in group]
            goal = (
                {"known": "0.95", "unnamed": "0.75", "never-seen": "0.50"}[kind] if mode == "sound and adapter" else "-"
            )
            rows.append(share(f"5 references, {kind}: {mode}", hits, goal, chance="0.04"))
        rows[-1].sheet = (drawn, [f"{t} | {s}" for t, s in zip(asked, said, strict=True)])
    return rows
