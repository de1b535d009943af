"""Figures without people: each measure gives one value for every picture, or for every two of a cell.

Definitions (docs/compare.md has them in words): AIS, AIC and IIS as AudioToken and SonicDiffusion compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .plan import PLACE
from .record import Record, open_picture
from .statistics import Estimate, Paired, bootstrap_interval, compare_pairs

Pictures = Sequence[Image.Image]


@dataclass(frozen=True)
class Instruments:
    """What looks and listens. A text in place of a function says why it is not there and what to do."""

    hears: Callable[[Pictures, list[Path]], Tensor] | str  # similarities (N, S) of N pictures to S sounds
    hears_name: str
    names: Callable[[Pictures, list[str]], list[str]] | str  # of some labels, that of each picture
    names_name: str
    reads: Callable[[Pictures, list[str]], Tensor] | str  # (N,) how well each picture fits its text
    reads_name: str
    sees: Callable[[Pictures], Tensor] | str  # unit vectors (N, D)
    sees_name: str
    differs: Callable[[Pictures, Pictures], Tensor] | str  # (N,) distances of pictures, two by two
    differs_name: str


@dataclass
class Measure:
    """One figure of every method."""

    key: str
    title: str
    encoder: str
    absent: str = ""  # why it could not be computed
    notes: list[str] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # method -> sound -> values

    def by_sound(self) -> dict[str, dict[str, float]]:
        """Method -> sound -> mean: pictures of one sound are no independent witnesses."""
        return {
            method: {sound: sum(found) / len(found) for sound, found in sounds.items() if found}
            for method, sounds in self.values.items()
        }

    def estimates(self) -> dict[str, Estimate]:
        return {method: bootstrap_interval(list(sounds.values())) for method, sounds in self.by_sound().items()}

    def pairs(self) -> list[Paired]:
        return compare_pairs(self.by_sound())


@dataclass(frozen=True)
class Cell:
    """A picture that is there."""

    sound: str
    method: str
    prompt: int
    seed: int
    picture: Image.Image


def measure_all(record: Record, tools: Instruments) -> list[Measure]:
    """Every measure of a comparison; one whose encoder is not there says so."""
    cells = [
        Cell(sound.name, method.name, prompt, seed, open_picture(path))
        for sound, method, prompt, seed in record.plan.cells()
        if (path := record.cell(sound.name, method.name, prompt, seed)) is not None
    ]
    return [
        _audio_image(record, tools, cells),
        _audio_class(record, tools, cells),
        _text(record, tools, cells),
        *_held_out(record, tools, cells),
        _variety(record, tools, cells),
    ]


def _table(record: Record) -> dict[str, dict[str, list[float]]]:
    plan = record.plan
    return {method.name: {sound.name: [] for sound in plan.sounds} for method in plan.methods}


def _fill(measure: Measure, record: Record, cells: list[Cell], values: Sequence[float]) -> Measure:
    measure.values = _table(record)
    for cell, value in zip(cells, values, strict=True):
        measure.values[cell.method][cell.sound].append(float(value))
    return measure


def win_rates(similarities: Tensor, own: list[int]) -> list[float]:
    """The share of the other columns of (N, S) below each row's own column. Equal ones count half; 0.5 is chance."""
    rates = []
    for row, mine in zip(similarities, own, strict=True):
        others = torch.cat([row[:mine], row[mine + 1 :]])
        rates.append(float(((others < row[mine]).double() + 0.5 * (others == row[mine]).double()).mean()))
    return rates


def _audio_image(record: Record, tools: Instruments, cells: list[Cell]) -> Measure:
    measure = Measure(
        "AIS", "audio-image similarity (AIS): share of other sounds that fit less; chance 0.5", tools.hears_name
    )
    names = [sound.name for sound in record.plan.sounds]
    sounds = [record.folder / record.material[name].audio for name in names if name in record.material]
    if isinstance(tools.hears, str):
        measure.absent = tools.hears
    elif len(sounds) < 2 or len(sounds) < len(names):
        measure.absent = "It compares a sound with others: at least two are needed, and each must be there."
    elif cells:
        similarities = tools.hears([cell.picture for cell in cells], sounds)
        _fill(measure, record, cells, win_rates(similarities, [names.index(cell.sound) for cell in cells]))
    return measure


def _audio_class(record: Record, tools: Instruments, cells: list[Cell]) -> Measure:
    measure = Measure(
        "AIC", "audio-image content (AIC): share of pictures that show the sound's class", tools.names_name
    )
    label_of = {sound.name: sound.label for sound in record.plan.sounds}
    labels = list(dict.fromkeys(label_of.values()))
    if isinstance(tools.names, str):
        measure.absent = tools.names
    elif cells:
        found = tools.names([cell.picture for cell in cells], labels)
        right = [name == label_of[cell.sound] for name, cell in zip(found, cells, strict=True)]
        _fill(measure, record, cells, right)
    return measure


def _text(record: Record, tools: Instruments, cells: list[Cell]) -> Measure:
    measure = Measure(
        "text", "text-image: how well a picture fits its prompt, the sound's label at its place", tools.reads_name
    )
    label_of = {sound.name: sound.label for sound in record.plan.sounds}
    if isinstance(tools.reads, str):
        measure.absent = tools.reads
    elif cells:
        texts = [record.plan.prompts[cell.prompt].replace(PLACE, label_of[cell.sound]) for cell in cells]
        _fill(measure, record, cells, tools.reads([cell.picture for cell in cells], texts).tolist())
    return measure


def _held_out(record: Record, tools: Instruments, cells: list[Cell]) -> list[Measure]:
    near = Measure("image", "image-image: mean cosine to the sound's held-out pictures", tools.sees_name)
    wins = Measure(
        "IIS",
        "image-image similarity (IIS): share of other sounds whose held-out pictures are less like it; chance 0.5",
        tools.sees_name,
    )
    held = {name: [record.folder / f for f in m.held_out] for name, m in record.material.items() if m.held_out}
    shown = [cell for cell in cells if cell.sound in held]
    reason = (
        tools.sees if isinstance(tools.sees, str) else "" if held else "No sound of the plan has `held_out` pictures."
    )
    near.absent = wins.absent = reason
    if isinstance(tools.sees, str) or not shown:
        return [near, wins]
    if len(held) < len(record.plan.sounds):
        near.notes.append(f"over the {len(held)} sounds that have held-out pictures")
    names = list(held)
    known = [tools.sees([open_picture(path) for path in held[name]]) for name in names]
    seen = tools.sees([cell.picture for cell in shown])
    means = torch.stack([(seen @ features.T).mean(1) for features in known], dim=1)  # (N, sounds)
    own = [names.index(cell.sound) for cell in shown]
    _fill(near, record, shown, [float(row[mine]) for row, mine in zip(means, own, strict=True)])
    if len(names) < 2:
        wins.absent = "It compares a sound's pictures with those of others: at least two sounds are needed."
    else:
        _fill(wins, record, shown, win_rates(means, own))
    return [near, wins]


def _variety(record: Record, tools: Instruments, cells: list[Cell]) -> Measure:
    measure = Measure(
        "variety", "variety: distance between two seeds of one prompt; higher is more varied", tools.differs_name
    )
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.method, cell.sound, cell.prompt), []).append(cell)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]
    if isinstance(tools.differs, str):
        measure.absent = tools.differs
    elif len(record.plan.seeds) < 2:
        measure.absent = "It needs two seeds of each prompt."
    elif pairs:
        distances = tools.differs([a.picture for a, _ in pairs], [b.picture for _, b in pairs])
        _fill(measure, record, [a for a, _ in pairs], distances.tolist())
    return measure


def unit(features: Tensor) -> Tensor:
    """Vectors (N, D) of length 1, float32, on the CPU."""
    return F.normalize(features.float().cpu(), dim=-1)
