"""A small training set and towers that tests of Align share."""

from __future__ import annotations

import torch
from aai_pack.aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_pack.aai_models.align.config import AlignConfig
from aai_pack.aai_models.align.data.items import MemorySource
from aai_pack.aai_models.align.data.prepare import prepare
from aai_pack.aai_models.align.data.shards import ShardSet, ShardSource
from aai_pack.aai_models.align.data.sources import Clip
from aai_pack.aai_models.align.momentum import TIED
from aai_pack.aai_models.align.texts import HashedWords
from aai_pack.aai_models.align.train.trainer import RunOptions, train
from aai_pack.tests import sounds
from PIL import Image

SMALL = CAVTMAEConfig(dim=64, patch=32, depth=1, mlp_dim=64, audio_tokens=128, image_tokens=49)
LABELS = ("dog", "rain", "sea waves", "clock")


def small_config(**changes) -> AlignConfig:
    values = {"preset": "test", "batch": 8, "epochs": 2, "lr": 1e-3, "alpha_ramp": 0.0, "tower": SMALL}
    return AlignConfig(**{**values, "momentum": 0.9, "schedule": "cosine", **changes})


def small_model(seed: int = 0) -> CAVTMAE:
    return CAVTMAE.fresh(SMALL, seed)


def memory_source(
    config: AlignConfig, pictures: str = "pixels", count: int = 20, heldout=(), **changes
) -> MemorySource:
    """Random clips of four classes, two pictures each."""
    generator = torch.Generator().manual_seed(3)
    fbank = torch.randn(count, 1024, 128, generator=generator)
    texts = HashedWords(64).encode([LABELS[n % 4] for n in range(count)])
    shape = {"pixels": (count, 2, 3, 224, 224), "features": (count, 2, 64)}.get(pictures)
    seen = None if shape is None else torch.randn(shape, generator=generator)
    if pictures == "features":
        seen = torch.nn.functional.normalize(seen, dim=-1)
    return MemorySource(fbank, texts, seen, config=config, heldout=heldout, **changes)


def make_set(folder, count: int = 24, shard_size: int = 7):
    """Tones of four classes, each with two pictures of its colour; one in six is held out."""
    clips = []
    (folder / "files").mkdir(parents=True)
    for n in range(count):
        kind = n % 4
        tone = sounds.tone(0.3, 8000, 300.0 * (1 + kind) + 7 * n)[0].numpy()
        sounds.write_wav(folder / "files" / f"{n}.wav", tone, 8000)
        pictures = []
        for m in range(2):
            colour = (60 * kind, 255 - 50 * kind, 9 * n + m)
            path = folder / "files" / f"{n}-{m}.png"
            Image.new("RGB", (64, 64), colour).save(path)
            pictures.append(path)
        split = "val" if n % 6 == 5 else "train"
        clips.append(
            Clip(f"clip {n}", folder / "files" / f"{n}.wav", LABELS[kind], split=split, pictures=tuple(pictures))
        )
    prepare(clips, folder / "set", shard_size=shard_size, workers=1)
    return folder / "set"


def shard_source(place, config, cache=None, reading="both", **options):
    states = (49, 64) if reading in TIED else (64,)
    return ShardSource(
        ShardSet.open(str(place)),
        config,
        HashedWords(64),
        states=states,
        tower=reading,
        cache=cache,
        limit=2**28,
        **options,
    )


def run(folder, source, config, max_steps: int = 0, **options):
    said: list[str] = []
    options = RunOptions(max_steps=max_steps, tensorboard=False, **options)
    result = train(small_model(), source, config, folder, options=options, say=said.append)
    return result, said
