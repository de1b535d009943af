"""Throughput, memory and a loss curve of Align on synthetic clips: the full model where there is a GPU, a small one else.

    python -m lab.bench.align_synthetic FOLDER [--preset paper] [--batch 120] [--chunk 0] [--steps 300]

A kind of clip is a coarse random pattern, one for its spectrograms and one for its pictures; each clip adds noise to both.
The towers are untrained, so the curve shows that training runs and learns, and nothing about sounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from aai_models.align.cavt_mae import CAVTMAE
from aai_models.align.config import PRESETS, AlignConfig
from aai_models.align.data.items import MemorySource
from aai_models.align.texts import HashedWords
from aai_models.align.train.processes import World
from aai_models.align.train.run_file import LOG
from aai_models.align.train.trainer import RunOptions, train

KINDS = 40
EPOCH = 4  # batches of an epoch


def patterns(generator: torch.Generator, channels: int, coarse: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """One for each kind, (KINDS, channels, *size)."""
    return F.interpolate(torch.randn(KINDS, channels, *coarse, generator=generator), size=size)


def synthetic(config: AlignConfig) -> MemorySource:
    """`EPOCH` batches to train on, and two clips of each kind held out."""
    generator = torch.Generator().manual_seed(0)
    heard = patterns(generator, 1, (32, 8), (1024, 128))[:, 0]
    seen = patterns(generator, 3, (7, 7), (224, 224))
    count = EPOCH * config.batch + 2 * KINDS
    kinds = torch.arange(count) % KINDS
    fbank = torch.stack([heard[k] + torch.randn(1024, 128, generator=generator) for k in kinds])
    pictures = torch.stack([seen[k] + 0.5 * torch.randn(3, 224, 224, generator=generator) for k in kinds])
    texts = HashedWords(config.tower.dim).encode([str(int(kind)) for kind in kinds])
    return MemorySource(fbank, texts, pictures[:, None], config=config, heldout=range(count - 2 * KINDS, count))


def peak_mb(device: torch.device) -> float:
    """Of the GPU's memory, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    world = World.start("auto")
    gpu = world.device.type == "cuda"
    parser = argparse.ArgumentParser(prog="python -m lab.bench.align_synthetic", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the log, curves and encoder; emptied first")
    parser.add_argument("--preset", choices=PRESETS, default="paper" if gpu else "tiny", help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=120 if gpu else 16, help="(%(default)s)")
    parser.add_argument("--chunk", type=int, default=0, help="clips in memory at a time; 0: all (%(default)s)")
    parser.add_argument("--steps", type=int, default=300 if gpu else 200, help="(%(default)s)")
    options = parser.parse_args()
    config = replace(PRESETS[options.preset], batch=options.batch, epochs=math.ceil(options.steps / EPOCH))
    shutil.rmtree(options.out, ignore_errors=True)
    source, moments = synthetic(config), []
    train(
        CAVTMAE.fresh(config.tower),
        source,
        config,
        options.out,
        world=world,
        options=RunOptions(options.chunk, tensorboard=False),
        say=lambda _: None,
        progress=lambda done, total: moments.append(time.perf_counter()),
    )
    # Between the steps of one epoch, so that looks at what is held out and checkpoints do not count.
    seconds = statistics.median(b - a for n, (a, b) in enumerate(itertools.pairwise(moments)) if (n + 1) % EPOCH)
    lines = [json.loads(line) for line in (options.out / LOG).read_text().splitlines()]
    loss = [line["loss"] for line in lines if "loss" in line]
    held = [line for line in lines if "heldout_a2t" in line]
    place = (
        torch.cuda.get_device_name(world.device) if gpu else "one processor" if torch.get_num_threads() == 1 else "cpu"
    )
    print(
        f"preset {config.preset}, {config.tower.dim} wide, batch {config.batch}, precision {config.precision}, {place}"
    )
    print(f"{len(loss)} steps, {seconds:.3f} s each: {config.batch / seconds:.1f} clips a second")
    print(f"peak memory {peak_mb(world.device):.0f} MB" + ("" if gpu else ", libraries and clips included"))
    print(
        f"loss of the first ten steps {statistics.fmean(loss[:10]):.3f}, of the last ten {statistics.fmean(loss[-10:]):.3f}"
    )
    for name, line in (("first", held[0]), ("last", held[-1])):
        words = f"sound to word {line['heldout_a2t']:.1f} %, sound to picture R@10 {line['heldout_a2v_r10']:.1f} %"
        print(f"held out after the {name} epoch: {words} (chance {100 / KINDS:.1f} and {1000 / (2 * KINDS):.1f})")


if __name__ == "__main__":
    main()
