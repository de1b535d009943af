"""Trains a judge on drawings made on the fly; seed 0 is the judge, any other seed the second one, of another build."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...pocket.world.names import COLOURS, PLACES, STYLES, THINGS
from ...pocket.world.scene import Scene, draw, random_scene
from .judge_model import Judge, judge_pictures
from .pictures import to_tensor
from .runs import Budget, Run


@dataclass(frozen=True)
class JudgeConfig:
    """Settings of the run."""

    seed: int = 0
    minutes: float = 2.5  # of one core, as the processor counts them
    batch: int = 48
    rate: float = 3e-3
    blur: float = 0.3  # share of pictures that are softened or roughened a little, as generated ones are


def judge_name(seed: int) -> str:
    return "judge" if seed == 0 else f"judge{seed}"


def loss_of(judge: Judge, pictures: Tensor, scenes: list[Scene]) -> Tensor:
    out = judge(pictures)
    there = torch.tensor([[float(name in (s.thing, s.second)) for name in THINGS] for s in scenes])
    loss = 8 * F.binary_cross_entropy_with_logits(out["thing"], there)
    for head, known in (("place", PLACES), ("style", STYLES), ("colour", COLOURS)):
        target = torch.tensor([list(known).index(getattr(s, head)) for s in scenes])
        single = torch.tensor([head != "colour" or (s.thing is not None and s.second is None) for s in scenes])
        loss = loss + F.cross_entropy(out[head][single], target[single])
    single = torch.tensor([s.thing is not None and s.second is None for s in scenes])
    level = torch.tensor([s.loudness for s in scenes])
    return loss + 2 * (out["loudness"][single, 0] - level[single]).square().mean()


def _disturb(pictures: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Some pictures a little softer or noisier."""
    chosen = torch.from_numpy(rng.random(len(pictures)) < share)
    soft = F.avg_pool2d(F.pad(pictures[chosen], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = torch.from_numpy(rng.normal(0, 0.06, soft.shape).astype(np.float32))
    pictures[chosen] = soft + noise
    return pictures


def accuracy(judge: Judge, count: int = 1000, seed: int = 4242) -> dict[str, float]:
    """Shares of right answers on held-out drawings of single things."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, list(THINGS)) for _ in range(count)]
    verdict = judge_pictures(judge, np.stack([draw(scene)[0] for scene in scenes]))
    heads = ("thing", "place", "colour", "style")
    return {
        head: float(np.mean([getattr(s, head) == said for s, said in zip(scenes, getattr(verdict, head), strict=True)]))
        for head in heads
    }


def train(config: JudgeConfig, out: Path) -> Path:
    """Train from the start; returns the file of the weights."""
    run = Run(out, judge_name(config.seed), config)
    torch.manual_seed(config.seed)
    judge = Judge(wide=config.seed > 0)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=config.rate, weight_decay=0.02, fused=True)
    budget, step = Budget(config.minutes, clock=time.process_time), 0
    while budget.share < 1:
        rng = np.random.default_rng((config.seed, 3, step))
        scenes = [random_scene(rng, list(THINGS), second=0.12, empty=0.04) for _ in range(config.batch)]
        pictures = _disturb(to_tensor(np.stack([draw(s)[0] for s in scenes])), config.blur, rng)
        optimiser.param_groups[0]["lr"] = budget.rate(config.rate, step, warm_up=100, flat=0.3, last=0.01)
        loss = loss_of(judge, pictures, scenes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        run.log(step=step, minutes=budget.spent / 60, loss=float(loss.detach()))
    run.log(True, step=step, minutes=budget.spent / 60, **accuracy(judge))
    path = run.folder / "weights.pt"
    torch.save(judge.state_dict(), path)
    return path
