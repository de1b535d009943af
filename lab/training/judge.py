"""Trains a judge on drawings made on the fly; seed 0 is the judge, any other seed the second one, of another build."""

from __future__ import annotations

import itertools
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
from .runs import Budget, Machine, Run, Session, at_work


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
    out, device = judge(pictures), pictures.device
    there = torch.tensor([[float(name in (s.thing, s.second)) for name in THINGS] for s in scenes], device=device)
    loss = 8 * F.binary_cross_entropy_with_logits(out["thing"], there)
    for head, known in (("place", PLACES), ("style", STYLES), ("colour", COLOURS)):
        target = torch.tensor([list(known).index(getattr(s, head)) for s in scenes], device=device)
        single = torch.tensor([head != "colour" or _is_single(s) for s in scenes], device=device)
        loss = loss + F.cross_entropy(out[head][single], target[single])
    single = torch.tensor([_is_single(s) for s in scenes], device=device)
    level = torch.tensor([s.loudness for s in scenes], device=device)
    return loss + 2 * (out["loudness"][single, 0] - level[single]).square().mean()


def _is_single(scene: Scene) -> bool:
    return scene.thing is not None and scene.second is None


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


def drawings(config: JudgeConfig, step: int) -> tuple[list[Scene], np.ndarray]:
    """The scenes of a step and their pictures, some of them disturbed (B, 3, 128, 128) float32 in -1..1."""
    rng = np.random.default_rng((config.seed, 3, step))
    scenes = [random_scene(rng, list(THINGS), second=0.12, empty=0.04) for _ in range(config.batch)]
    pictures = to_tensor(np.stack([draw(scene)[0] for scene in scenes]))
    return scenes, _disturb(pictures, config.blur, rng).numpy()


def train(config: JudgeConfig, out: Path, machine: Machine | None = None) -> Path:
    """Train or go on; returns the file of the weights. Ctrl-C finishes the step, saves and raises."""
    run, machine = Run(out, judge_name(config.seed), config), machine or Machine()
    torch.manual_seed(config.seed)
    judge = Judge(wide=config.seed > 0).to(machine.device)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=config.rate, weight_decay=0.02, fused=True)
    session = Session(run, judge, optimiser, Budget(config.minutes, clock=machine.clock))
    with at_work(machine) as (workers, stop):
        drawn = workers.ahead(drawings, ((config, step) for step in itertools.count(session.step)))
        while (share := session.budget.share) < 1 and not stop.asked:
            scenes, pictures = next(drawn)
            rate = session.budget.rate(config.rate, session.step, 100, flat=0.3, last=0.01, share=share)
            optimiser.param_groups[0]["lr"] = rate
            tensor = torch.from_numpy(pictures).contiguous(memory_format=torch.channels_last)
            loss = loss_of(judge, tensor.to(machine.device, non_blocking=True), scenes)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            session.step += 1
            session.log(loss=loss.detach())
            session.checkpoint()
        session.checkpoint(True)
    session.log(True, **accuracy(judge))
    return run.finish(judge.state_dict())
