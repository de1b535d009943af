"""Runs the scoreboard: table and sheets of pictures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from ...aai_models.draw import contact_sheet
from ...pocket.models import hearing, weights
from ...pocket.world.names import COLOURS, PLACES, STYLES, THINGS
from ...pocket.world.scene import Scene, draw
from ..training.judge import JudgeConfig, accuracy, judge_name
from ..training.judge import train as train_judge
from ..training.judge_model import SHIPPED_JUDGE, Judge
from .artist import Artist
from .exam import Exam
from .figures import Row, wilson
from .rows import ROWS

COLUMNS = 9  # of a sheet


def load_judge(runs: Path, seed: int = 0) -> Judge:
    """The judge of a seed: from `runs`, else the one that came with the pack, else trained now (some minutes)."""
    path, shipped = runs / judge_name(seed) / "weights.pt", SHIPPED_JUDGE
    judge = Judge(wide=seed > 0)
    if not path.is_file() and seed == 0 and shipped.is_file():
        judge.load_state_dict(weights.unpack(load_file(shipped)))
        return judge.eval()
    if not path.is_file():
        train_judge(JudgeConfig(seed=seed, minutes=6.0), runs)  # of another build, it needs longer
    judge.load_state_dict(torch.load(path, weights_only=True))
    return judge.eval()


def examine(
    runs: Path, repeats: int = 12, recordings: Path | None = None, second: bool = False, kind: type[Exam] = Exam
) -> Exam:
    """The exam of the shipped weights; `second` asks for the second judge too, `kind` may know more of the examined."""
    parts, about = weights.load()
    artist = Artist(parts, about)
    other = load_judge(runs, 1) if second else None
    towers = hearing.PocketCAVTMAE.from_state_dict(hearing.as_used(parts["cavt"]))
    return kind(artist, towers, artist.bridge(), load_judge(runs), other, repeats, recordings, runs)


def run(exam: Exam, sheets: Path | None = None, measures=ROWS, done=None) -> list[list[str]]:
    """The rows as cells; a sheet of each into the folder `sheets`; `done(cells)` is told of each row when it is known."""
    lines = []

    def add(row: Row) -> None:
        lines.append(row.cells())
        if done is not None:
            done(row.cells())

    for row in witnesses(exam):
        add(row)
    if sheets is not None:
        save_world(sheets / "small" / "world.png")
    for measure in measures:
        started, number = time.monotonic(), 0
        for row in measure(exam):
            add(row)
            if sheets is not None and row.sheet is not None:
                number += 1
                name = measure.__name__ if number == 1 else f"{measure.__name__}_{number}"
                save_sheet(row, sheets, name)
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


def save_sheet(row: Row, folder: Path, name: str) -> None:
    """Pictures of a row with what the judge said, the failures among them: many, and a few small ones for a page."""
    pictures, captions = row.sheet
    columns = row.together or COLUMNS
    for where, most, side in ((folder, 72, 128), (folder / "small", 36, 94)):
        where.mkdir(parents=True, exist_ok=True)
        chosen = np.arange(min(len(captions), -(-most // columns) * columns))
        if not row.together:
            chosen = np.sort(np.random.default_rng(0).permutation(len(captions))[:most])
        tiles = [Image.fromarray(pictures[i]) for i in chosen]
        drawn = contact_sheet(tiles, [captions[i] for i in chosen], columns=columns, side=side)
        drawn.quantize(160).save(where / f"{name}.png", optimize=True)


def save_world(path: Path) -> None:
    """Three pictures of each thing, through all places, colours and styles."""
    drawn = []
    for i, thing in enumerate(THINGS):
        for k in range(3):
            n = 3 * i + k
            place, colour = list(PLACES)[(i + 3 * k) % 8], list(COLOURS)[(i + 2 * k) % 5]
            style = list(STYLES)[0 if k == 0 else 1 + (i + k) % 3]
            drawn.append(draw(Scene(thing, place, colour, style, 0.9 - 0.3 * k, mirrored=n % 2 == 1, seed=n))[0])
    tiles = np.stack(drawn).reshape(6, 12, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(6 * 128, 12 * 128, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tiles).resize((12 * 96, 6 * 96), Image.Resampling.LANCZOS).quantize(200).save(path, optimize=True)
