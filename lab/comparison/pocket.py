"""The instruments of the pocket world: its judge looks at things and places, its own towers hear and see."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ...aai_models.align.images import image_input
from ...aai_models.audio.decode import decode_audio
from ...aai_models.audio.fbank import encoder_input
from ...aai_models.errors import ExplainedError, StudyError
from ...aai_models.study.figures import write_figures
from ...aai_models.study.measures import Instruments
from ...aai_models.study.record import Record
from ...pocket.models import hearing, weights
from ...pocket.world.names import PLACES, THINGS
from ..training.judge_model import SHIPPED_JUDGE, Judge, judge_pictures

SIDE = 128  # pixels of the pocket world's pictures


class PocketWitness:
    """Looks at pictures of the pocket world and listens to its sounds."""

    def __init__(self):
        self.judge = Judge()
        self.judge.load_state_dict(weights.unpack(load_file(SHIPPED_JUDGE)))
        self.judge.eval().requires_grad_(False)
        parts, _ = weights.load()
        self.towers = hearing.PocketCAVTMAE.from_state_dict(hearing.as_used(parts["cavt"])).eval()

    @torch.no_grad()
    def hears(self, pictures: Sequence[Image.Image], sounds: list[Path]) -> Tensor:
        """Cosines (N, S) of the pocket CAVT-MAE's features."""
        heard = []
        for path in sounds:
            waveform, rate = decode_audio(path)
            heard.append(self.towers.encode_audio(encoder_input(waveform[None], rate, short_clip="tile")))
        seen = torch.cat([self.towers.encode_image(image_input(picture)[None]) for picture in pictures])
        return seen @ torch.cat(heard).T

    def names(self, pictures: Sequence[Image.Image], labels: list[str]) -> list[str]:
        """What the judge finds in each picture, of all things of the world and not of `labels` alone."""
        unknown = [label for label in labels if label not in THINGS]
        if unknown:
            raise StudyError(
                f"The judge knows no {unknown[0]!r}", f"It knows {', '.join(THINGS)}", "Correct the labels"
            )
        return judge_pictures(self.judge, _array(pictures)).thing

    def reads(self, pictures: Sequence[Image.Image], texts: list[str]) -> Tensor:
        """1 where the judge finds the thing and the place that the text tells, 0.5 for one of the two; (N,)."""
        verdict = judge_pictures(self.judge, _array(pictures))
        scores = []
        for text, thing, place in zip(texts, verdict.thing, verdict.place, strict=True):
            found = [name == thing for name in THINGS if name in text.split()]
            found += [name == place for name, told in PLACES.items() if told[0] in text]
            scores.append(sum(found) / len(found) if found else 0.0)
        return torch.tensor(scores)

    @torch.no_grad()
    def sees(self, pictures: Sequence[Image.Image]) -> Tensor:
        """The judge's features, of length 1 (N, D)."""
        body = self.judge.body(_halved(pictures))
        return F.normalize(torch.cat([body.mean((2, 3)), body.amax((2, 3))], dim=1), dim=-1)

    @torch.no_grad()
    def differs(self, a: Sequence[Image.Image], b: Sequence[Image.Image]) -> Tensor:
        """As LPIPS without learned weights: squared differences of unit features at each layer of the judge (N,)."""
        total = torch.zeros(len(a))
        x, y = _halved(a), _halved(b)
        for layer in self.judge.body:
            x, y = layer(x), layer(y)
            if isinstance(layer, torch.nn.ReLU):
                total += (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean((1, 2))
        return total

    def instruments(self) -> Instruments:
        return Instruments(
            hears=self.hears,
            hears_name="pocket CAVT-MAE",
            names=self.names,
            names_name=f"the judge, of {len(THINGS)} things",
            reads=self.reads,
            reads_name="the judge, thing and place",
            sees=self.sees,
            sees_name="the judge's features",
            differs=self.differs,
            differs_name="the judge's layers",
        )


def _array(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.array(picture.convert("RGB").resize((SIDE, SIDE))) for picture in pictures])


def _halved(pictures: Sequence[Image.Image]) -> Tensor:
    """(N, 3, 64, 64) in -1..1, as the judge looks at them."""
    return F.avg_pool2d(torch.from_numpy(_array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1, 2)


def main(arguments: list[str] | None = None) -> int:
    """Write and print the figures of a folder; a known failure is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m lab.comparison", description=__doc__)
    parser.add_argument("folder", type=Path, help="what `python -m aai_models.study make` wrote for the pocket world")
    options = parser.parse_args(arguments)
    try:
        print(write_figures(Record.open(options.folder), PocketWitness().instruments()))
    except ExplainedError as error:
        print(f"lab.comparison: {error}", file=sys.stderr)
        return 1
    return 0
