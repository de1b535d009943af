"""A judge of pictures: which things, place, style and colour are there, and how large or dense. Trained on drawings alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pocket.world.names import COLOURS, PLACES, STYLES, THINGS

SHIPPED_JUDGE = Path(__file__).resolve().parent.parent / "weights" / "judge.safetensors"
HEADS = {"thing": len(THINGS), "place": len(PLACES), "colour": len(COLOURS), "style": len(STYLES), "loudness": 1}


class Judge(nn.Module):
    """Pictures (B, 3, 128, 128) in -1..1 -> logits by head; `wide` makes the second judge, of another build."""

    def __init__(self, wide: bool = False):
        super().__init__()
        widths, kernel = ((24, 48, 96, 192), 5) if wide else ((32, 64, 128, 160), 3)
        layers, n_in = [], 3
        for width in widths:
            layers += [nn.Conv2d(n_in, width, kernel, stride=2, padding=kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            n_in = width
        layers += [nn.Conv2d(n_in, n_in, 3, padding=1, bias=False), nn.BatchNorm2d(n_in), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * n_in, count) for name, count in HEADS.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        h = self.body(F.avg_pool2d(pictures, 2))
        pooled = torch.cat([h.mean((2, 3)), h.amax((2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Verdict:
    """What a judge sees in a batch."""

    thing: list[str]
    place: list[str]
    colour: list[str]
    style: list[str]
    loudness: np.ndarray  # (B,), 0..1 on drawings
    presence: np.ndarray  # (B, things), chances


@torch.no_grad()
def judge_pictures(judge: Judge, pictures: np.ndarray) -> Verdict:
    """Pictures (B, 128, 128, 3) uint8."""
    judge.eval()
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    out = {head: values.cpu() for head, values in judge(tensor.to(next(judge.parameters()).device)).items()}
    names = {"thing": THINGS, "place": list(PLACES), "colour": list(COLOURS), "style": list(STYLES)}
    best = {head: [known[i] for i in out[head].argmax(1).tolist()] for head, known in names.items()}
    return Verdict(**best, loudness=out["loudness"][:, 0].numpy(), presence=out["thing"].sigmoid().numpy())
