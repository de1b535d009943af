"""Runs the scoreboard: table and sheets of pictures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from ...aai_models.align.cavt_mae import CAVTMAE
from ...aai_models.draw import contact_sheet
from ..models import hearing, weights
from ..models.judge import Judge
from ..training.judge import JudgeConfig, accuracy, judge_name
from ..training.judge import train as train_judge
from .artist import Artist
from .exam import Exam
from .figures import Row, wilson
from .rows import ROWS


def load_judge(runs: Path, seed: int = 0) -> Judge:
    """The judge of a seed: from `runs`, else the one that came with the pack, else trained now (some minutes)."""
    path, shipped = runs / judge_name(seed) / "weights.pt", weights.PATH.with_name("judge.safetensors")
    judge = Judge(wide=seed > 0)
    if not path.is_file() and seed == 0 and shipped.is_file():
        judge.load_state_dict(weights.unpack(load_file(shipped)))
        return judge.eval()
    if not path.is_file():
        train_judge(JudgeConfig(seed=seed), runs)
    judge.load_state_dict(torch.load(path, weights_only=True))
    return judge.eval()


def examine(
    runs: Path, repeats: int = 12, recordings: Path | None = None, second: bool = False, kind: type[Exam] = Exam
) -> Exam:
    """The exam of the shipped weights; `second` asks for the second judge too, `kind` may know more of the examined."""
    parts, about = weights.load()
    name = "patch_embed_v.proj.weight"
    parts["cavt"][name] = hearing.full_kernel(parts["cavt"][name])
    artist = Artist(parts, about)
    other = load_judge(runs, 1) if second else None
    towers = CAVTMAE.from_state_dict(parts["cavt"])
    return kind(artist, towers, artist.bridge(), load_judge(runs), other, repeats, recordings, runs)


def run(exam: Exam, sheets: Path | None = None, only: str = "", measures=ROWS, done=None) -> list[list[str]]:
    """The rows as cells; a sheet of each into the folder `sheets`; `only` names some measures, with commas between.

    `done(cells)` is told of each row when it is known.
    """
    lines = []

    def add(row: Row) -> None:
        lines.append(row.cells())
        if done is not None:
            done(row.cells())

    for row in witnesses(exam):
        add(row)
    for measure in measures:
        if only and measure.__name__ not in only.split(","):
            continue
        started = time.monotonic()
        for number, row in enumerate(measure(exam)):
            add(row)
            if sheets is not None and row.sheet is not None:
                _save(row.sheet, sheets / f"{measure.__name__}_{number}.png")
        print(f"({measure.__name__}: {time.monotonic() - started:.0f} s)", flush=True)
    return lines


def witnesses(exam: Exam) -> list[Row]:
    """How far the judges themselves can be trusted, on held-out drawings."""
    judges = {"the judge": exam.judge} | ({"the second judge": exam.second_judge} if exam.second_judge else {})
    rows = []
    for name, judge in judges.items():
        for head, value in accuracy(judge).items():
            right = round(1000 * value)
            rows.append(Row(f"{name} on drawings: {head}", value, wilson(right, 1000), 1000, "0.98", digits=3))
    return rows


def _save(sheet: tuple[np.ndarray, list[str]], path: Path, most: int = 72) -> None:
    """Evenly spaced pictures of a row with what the judge said, the failures among them."""
    pictures, captions = sheet
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).astype(int))
    tiles = [Image.fromarray(pictures[i]) for i in chosen]
    contact_sheet(tiles, [captions[i] for i in chosen], columns=9, side=128).save(path, optimize=True)
