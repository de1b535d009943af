"""An evaluation as text, JSON and pictures, each figure beside the published ones and marked where it may be compared."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...draw import GROUND, INK, font, heat, shorten
from .evaluate import Classification, RetrievalRow, chance
from .published import MARKS, TABLE_1, TABLE_2, Row, classification_mark, retrieval_mark


@dataclass
class Evaluation:
    """One encoder on one split."""

    encoder: str
    data: str
    known_as: str  # `published.recognise`
    split: str
    clips: int
    classes: int
    texts: str
    trained_here: bool = False  # on clips of this set: its classes are not new to the encoder
    remarks: list[str] = field(default_factory=list)
    retrieval: list[RetrievalRow] = field(default_factory=list)
    classification: list[Classification] = field(default_factory=list)
    probe: float | None = None  # percent
    baselines: list[Evaluation] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Everything, with the published rows, each with its mark."""
        values = dataclasses.asdict(self)
        clips = {row.subset: row.to_picture.count for row in self.retrieval}
        values["published"] = {
            "marks": MARKS,
            "table_1": {
                name: [{**dataclasses.asdict(row), "mark": self.mark_1(row, name, clips.get(name, 0))} for row in rows]
                for name, rows in TABLE_1.items()
            },
            "table_2": {
                name: [{**dataclasses.asdict(row), "mark": self.mark_2(row, name)} for row in rows]
                for name, rows in TABLE_2.items()
            },
        }
        return json.dumps(values, indent=1, ensure_ascii=False)

    def mark_1(self, row: Row, subset: str, clips: int) -> str:
        return retrieval_mark(row, self.known_as, subset, clips)

    def mark_2(self, row: Row, name: str) -> str:
        return classification_mark(row, name, self.known_as, self.clips, self.trained_here)


def text_tables(evaluation: Evaluation) -> str:
    """All tables for a terminal."""
    parts = [
        f"{evaluation.encoder} on {evaluation.known_as} ({evaluation.data}), split {evaluation.split}: "
        f"{evaluation.clips} clips, {evaluation.classes} classes"
    ]
    parts += evaluation.remarks
    if evaluation.retrieval:
        parts.append(_grid("Table 1: retrieval, in percent", *_retrieval_rows(evaluation)))
    if evaluation.classification:
        title = f"Table 2: zero-shot classification with the texts of {evaluation.texts}, in percent"
        parts.append(_grid(title, *_classification_rows(evaluation)))
    if evaluation.probe is not None:
        lines = [f"linear probe on the frozen features: {evaluation.probe:.1f} %"]
        lines += [f"the same on the {b.encoder}: {b.probe:.1f} %" for b in evaluation.baselines if b.probe is not None]
        parts.append("\n".join(lines))
    parts += [f"skipped: {reason}" for reason in evaluation.skipped]
    return "\n\n".join(parts) + "\n"


def _retrieval_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    head = [
        "subset",
        "encoder",
        "clips",
        "A->V R@1",
        "R@5",
        "R@10",
        "median",
        "V->A R@1",
        "R@5",
        "R@10",
        "median",
        "ties",
    ]
    rows = []
    for n, row in enumerate(evaluation.retrieval):
        for who in (evaluation, *evaluation.baselines):
            if n < len(who.retrieval):
                rows.append([row.subset, who.encoder, *_figures(who.retrieval[n])])
        guess = chance(row.to_picture.count)
        rows.append([row.subset, "chance", *_figures(RetrievalRow("", guess, guess))])
        for other in TABLE_1[row.subset]:
            there, back = ([f"{v:.2f}" for v in way] + [""] * (3 - len(way)) for way in (other.figures, other.back))
            mark = evaluation.mark_1(other, row.subset, row.to_picture.count)
            rows.append([row.subset, _published(other, mark), "", *there, "", *back, "", ""])
    return head, rows


def _figures(row: RetrievalRow) -> list[str]:
    cells = [str(row.to_picture.count)]
    for one in (row.to_picture, row.to_sound):
        cells += [f"{one.r1:.2f}", f"{one.r5:.2f}", f"{one.r10:.2f}", f"{one.median_rank:g}"]
    return [*cells, f"{max(row.to_picture.ties, row.to_sound.ties):.1f}"]


def _published(row: Row, mark: str) -> str:
    return f"{mark} {row.model} [{row.source}{'; ' + row.note if row.note else ''}]"


def _classification_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    head = ["encoder", "prompt", "all clips", "mean of folds", "sd"]
    rows = []
    for who in (evaluation, *evaluation.baselines):
        for line in who.classification:
            rows.append(
                [who.encoder, line.style, f"{line.all_clips:.2f}", f"{line.fold_mean:.2f}", f"{line.fold_spread:.2f}"]
            )
    rows.append(["chance", "", f"{100 / evaluation.classes:.2f}", "", ""])
    for name in TABLE_2 if evaluation.known_as not in TABLE_2 else [evaluation.known_as]:
        for other in TABLE_2[name]:
            rows.append(
                [f"{_published(other, evaluation.mark_2(other, name))} {name}", "", f"{other.figures[0]:.2f}", "", ""]
            )
    return head, rows


def _grid(title: str, head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    key = "   ".join(f"{mark} {meaning}" for mark, meaning in MARKS.items())
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:], key])


def similarity_picture(values: np.ndarray, classes: list[str], across: str, cell: int = 40) -> Image.Image:
    """Mean cosines (C, C) as colours: sounds from top to bottom, `across` (pictures or words) from left to right."""
    count = len(classes)
    cell = max(4, min(cell, 2000 // count))
    letters, left, top = font(min(14, max(8, cell // 2 + 4))), 150, 170
    picture = Image.new("RGB", (left + count * cell + 110, top + count * cell + 20), GROUND)
    low, high = float(values.min()), float(values.max())
    colours = heat((values - low) / max(high - low, 1e-6))
    picture.paste(Image.fromarray(colours).resize((count * cell, count * cell), Image.Resampling.NEAREST), (left, top))
    draw = ImageDraw.Draw(picture)
    for n, name in enumerate(classes):
        if cell >= 10:
            draw.text((8, top + n * cell + cell / 2 - 8), shorten(name, left - 16, letters), fill=INK, font=letters)
            upright = Image.new("RGB", (top - 50, 20), GROUND)
            ImageDraw.Draw(upright).text((0, 0), shorten(name, top - 54, letters), fill=INK, font=letters)
            picture.paste(upright.rotate(90, expand=True), (left + n * cell + cell // 2 - 10, 44))
    draw.text((8, 12), f"mean cosine of sounds (down) and {across} (across)", fill=INK, font=font(15))
    right = left + count * cell + 20
    scale = heat(np.linspace(1, 0, count * cell)[:, None])
    picture.paste(Image.fromarray(scale).resize((16, count * cell)), (right, top))
    for share in (0.0, 0.5, 1.0):
        value = high - share * (high - low)
        draw.text((right + 22, top + share * count * cell - 8), f"{value:.2f}", fill=INK, font=font(13))
    return picture


def table_picture(text: str) -> Image.Image:
    """A text table as a picture."""
    letters, lines = font(14), text.splitlines()
    wide = max((letters.getlength(line) for line in lines), default=0)
    # Pillow's own font is not of one width: each column is placed by the widest letter.
    step = max(letters.getlength(letter) for letter in "0Mx")
    width = int(min(max(wide, step * max(map(len, lines), default=0)), 4000)) + 24
    picture = Image.new("RGB", (width, 22 * len(lines) + 20), GROUND)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        for start, cell in _cells(line):
            draw.text((12 + step * start, 10 + 22 * number), cell, fill=INK, font=letters)
    return picture


def _cells(line: str) -> list[tuple[int, str]]:
    """Pieces of a line between two or more spaces, each with its column."""
    cells, start = [], 0
    for piece in line.split("  "):
        if piece.strip():
            cells.append((start + len(piece) - len(piece.lstrip()), piece.strip()))
        start += len(piece) + 2
    return cells


def write_all(evaluation: Evaluation, pictures: dict[str, Image.Image], folder: Path) -> str:
    """Write evaluation.txt, .json, table.png and the pictures into a folder -> the text."""
    folder.mkdir(parents=True, exist_ok=True)
    text = text_tables(evaluation)
    (folder / "evaluation.txt").write_text(text, encoding="utf-8")
    (folder / "evaluation.json").write_text(evaluation.to_json() + "\n", encoding="utf-8")
    table_picture(text).save(folder / "table.png")
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    return text
