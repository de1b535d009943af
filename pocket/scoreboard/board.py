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
from .rows import ROWS, Exam

COLUMNS = ["row", "figure", "95 %", "n", "goal", "plain word", "random token", "chance"]


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


def examine(runs: Path, repeats: int = 12, recordings: Path | None = None, path: Path = weights.PATH) -> Exam:
    """The exam of a file of weights."""
    parts, about = weights.load(path)
    name = "patch_embed_v.proj.weight"
    parts["cavt"][name] = hearing.full_kernel(parts["cavt"][name])
    artist = Artist(parts, about)
    second = load_judge(runs, 1) if (runs / judge_name(1)).is_dir() else None
    return Exam(
        artist, CAVTMAE.from_state_dict(parts["cavt"]), artist.bridge(), load_judge(runs), second, repeats, recordings
    )


def run(exam: Exam, sheets: Path | None = None, only: str = "") -> list[list[str]]:
    """The rows as cells; a sheet of each into the folder `sheets`; `only` names some measures, with commas between."""
    right = accuracy(exam.judge)
    lines = [
        [f"the judge on drawings: {head}", f"{value:.3f}", "", "1000", "0.98", "", "", ""]
        for head, value in right.items()
    ]
    for measure in ROWS:
        if only and measure.__name__ not in only.split(","):
            continue
        started = time.monotonic()
        for number, row in enumerate(measure(exam)):
            lines.append(row.cells())
            print("  ".join(row.cells()), flush=True)
            if sheets is not None and row.sheet is not None:
                _save(row.sheet, sheets / f"{measure.__name__}_{number}.png")
        print(f"({measure.__name__}: {time.monotonic() - started:.0f} s)", flush=True)
    return lines


def _save(sheet: tuple[np.ndarray, list[str]], path: Path, most: int = 72) -> None:
    """Evenly spaced pictures of a row with what the judge said, the failures among them."""
    pictures, captions = sheet
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).astype(int))
    tiles = [Image.fromarray(pictures[i]) for i in chosen]
    contact_sheet(tiles, [captions[i] for i in chosen], columns=9, side=128).save(path, optimize=True)
