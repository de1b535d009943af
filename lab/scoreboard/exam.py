"""What is examined, by whom, and on what: sounds, words, drawings that a sound may choose from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.adapt.bridge import Bridge
from ...aai_models.align.cavt_mae import CAVTMAE
from ...aai_models.audio.fbank import encoder_input
from ...pocket.models.hearing import HALF, encode_half, half_kernel
from ...pocket.world.names import NAMED, THINGS
from ...pocket.world.scene import draw, random_scene
from ...pocket.world.sounds import RATE, synthesise
from ..training.judge_model import Judge, Verdict, judge_pictures
from ..training.sounds import SoundConfig, as_input, trained_ear
from .artist import Artist, unit
from .finder import Finder, load_finder

FIRST_SOUND = 1_000_000  # seed of sounds that no training has heard
LIBRARY = 2000  # drawings that a sound may choose from
SEEDS = 3  # of the noise that pictures begin from


@dataclass
class Library:
    """Drawings with what they show, and what the image tower sees in them."""

    pictures: np.ndarray  # (N, 128, 128, 3) uint8
    things: list[str]
    features: Tensor  # (N, D), unit norm


@dataclass
class Exam:
    """What is examined, and by whom."""

    artist: Artist
    hearing: CAVTMAE
    bridge: Bridge
    judge: Judge
    second_judge: Judge | None = None
    repeats: int = 12  # pictures of each of the 18 named things: 216 in a row
    recordings: Path | None = None
    runs: Path = Path("pocket_runs")  # where what the scoreboard trains for itself is kept

    def hear(self, things: list[str], first: int = FIRST_SOUND, loudness: float = 0.6) -> Tensor:
        """Features of a fresh sound of each thing (N, D)."""
        return self.hear_waves([synthesise(thing, loudness, first + i) for i, thing in enumerate(things)])

    def hear_waves(self, waves: list[np.ndarray]) -> Tensor:
        """Features of sounds at 16 kHz (N, D)."""
        fbank = torch.cat([encoder_input(torch.from_numpy(w)[None, None], RATE, short_clip="tile") for w in waves])
        with torch.no_grad():
            return torch.cat([self.hearing.encode_audio(part) for part in fbank.split(16)])

    def words(self, things: list[str], first: int = FIRST_SOUND, nearest: float = 0.0) -> Tensor:
        """A* of a fresh sound of each thing without training (N, 1, 768)."""
        return self.artist.words_of(self.hear(things, first), self.bridge, nearest)[:, None]

    def random_words(self, count: int, seed: int = 0) -> Tensor:
        """Words of a word's size without any meaning (N, 1, 768)."""
        rows = torch.randn(count, 768, generator=torch.Generator().manual_seed(seed))
        return self.artist.word_scale() * unit(rows)[:, None]

    def named(self) -> list[str]:
        """Each named thing `repeats` times."""
        return list(NAMED) * self.repeats

    def paint(self, texts: list[str], slots: Tensor | None = None, seed: int = 0) -> np.ndarray:
        """Pictures of the prompts, a part of them from each of `SEEDS` seeds."""
        return np.concatenate(
            [
                self.artist.paint([texts[i] for i in part], None if slots is None else slots[part], seed=100 * k + seed)
                for k, part in enumerate(np.array_split(np.arange(len(texts)), SEEDS))
                if len(part)
            ]
        )

    def judged(self, texts: list[str], slots: Tensor | None = None, seed: int = 0) -> tuple[np.ndarray, Verdict]:
        """Pictures of the prompts, and what the judge sees in them."""
        drawn = self.paint(texts, slots, seed)
        return drawn, judge_pictures(self.judge, drawn)

    def see(self, pictures: np.ndarray) -> Tensor:
        """What the image tower sees in pictures (N, 128, 128, 3) uint8: (N, D)."""
        kernel, features = half_kernel(self.hearing.patch_embed_v.proj.weight), []
        for part in np.array_split(pictures, -(-len(pictures) // 64)):
            pixels = torch.from_numpy(part).permute(0, 3, 1, 2).float()
            small = as_input(F.interpolate(pixels, size=(HALF, HALF), mode="bilinear", antialias=True))
            with torch.no_grad():
                features.append(encode_half(self.hearing, small, kernel))
        return torch.cat(features)

    @cached_property
    def library(self) -> Library:
        """`LIBRARY` drawings of single things of all kinds."""
        rng = np.random.default_rng(75)
        things = [str(t) for t in rng.choice(THINGS, LIBRARY)]
        pictures = np.stack([draw(random_scene(rng, [thing]))[0] for thing in things])
        return Library(pictures, things, self.see(pictures))

    @cached_property
    def ear_of_two_folds(self) -> CAVTMAE:
        """An ear that has not heard the recordings' third fold, as the shipped one has: from `runs`, else trained now."""
        with torch.enable_grad():  # whoever asks first may be reading features alone
            return trained_ear(SoundConfig(folds=(1, 2)), self.runs, self.recordings)

    @cached_property
    def finder(self) -> Finder:
        """Finds a thing in a picture, for what happens outside of it."""
        return load_finder(self.runs)
