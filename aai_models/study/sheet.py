"""Contact sheets as Fig. 5a: a column for each sound, a row for each method."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..audio.decode import decode_audio
from ..draw import GROUND, INK, fit, font, shorten
from .record import Record, open_picture

SIDE, GAP, TITLES, LINE = 160, 6, 150, 22  # pixels: of a picture, between pictures, of the methods' names, of a caption
WAVE = 48  # pixels: height of a waveform
BLUE, EMPTY = (59, 110, 165), (226, 226, 226)
MOST_IN_A_CELL = 4  # pictures of different seeds beside each other


def write_sheets(record: Record) -> list[Path]:
    """`sheet.png` with the first prompt and seed, and `sheets/prompt_K.png` with the seeds of each prompt."""
    plan = record.plan
    names = ["sheet.png"]
    _save(record, draw_sheet(record, 0, [0]), names[0])
    for prompt in range(len(plan.prompts)):
        names.append(f"sheets/prompt_{prompt + 1}.png")
        _save(record, draw_sheet(record, prompt, list(range(len(plan.seeds)))[:MOST_IN_A_CELL]), names[-1])
    return [record.folder / name for name in names]


def draw_sheet(record: Record, prompt: int, seeds: list[int]) -> Image.Image:
    """One sheet; a picture that is not there is a grey tile that says so."""
    plan, letters = record.plan, font(14)
    wide = len(seeds) * SIDE
    width = TITLES + len(plan.sounds) * (wide + GAP) + GAP
    top = GAP + LINE + WAVE + GAP
    rows: list[tuple[str, str | None]] = [("a reference", None)]
    rows = rows if any(m.references for m in record.material.values()) else []
    rows += [(method.name, method.name) for method in plan.methods]
    sheet = Image.new("RGB", (width, top + len(rows) * (SIDE + GAP) + LINE), GROUND)
    pen = ImageDraw.Draw(sheet)
    for column, sound in enumerate(plan.sounds):
        x = TITLES + column * (wide + GAP)
        pen.text((x, GAP), shorten(sound.name, wide, letters), fill=INK, font=letters)
        sheet.paste(_wave(record, sound.name, wide), (x, GAP + LINE))
        for row, (_, method) in enumerate(rows):
            y = top + row * (SIDE + GAP)
            if method is None:
                references = record.material[sound.name].references if sound.name in record.material else []
                for k, name in enumerate(references[: len(seeds)]):
                    sheet.paste(fit(open_picture(record.folder / name), SIDE, SIDE), (x + k * SIDE, y))
                continue
            for k, seed in enumerate(seeds):
                sheet.paste(_tile(record.cell(sound.name, method, prompt, seed)), (x + k * SIDE, y))
    for row, (title, _) in enumerate(rows):
        y = top + row * (SIDE + GAP) + SIDE // 2 - LINE // 2
        pen.text((GAP, y), shorten(title, TITLES - 2 * GAP, letters), fill=INK, font=letters)
    text = f"{plan.prompts[prompt]}   seeds {', '.join(str(plan.seeds[seed]) for seed in seeds)}"
    pen.text((GAP, sheet.height - LINE + 2), shorten(text, width - 2 * GAP, letters), fill=INK, font=letters)
    return sheet


def _tile(path: Path | None) -> Image.Image:
    if path is not None:
        return fit(open_picture(path), SIDE, SIDE)
    tile = Image.new("RGB", (SIDE, SIDE), EMPTY)
    ImageDraw.Draw(tile).text((SIDE // 2 - 26, SIDE // 2 - 8), "missing", fill=INK, font=font(14))
    return tile


def _wave(record: Record, sound: str, width: int) -> Image.Image:
    """Peaks of a sound; an empty tile where it cannot be read."""
    tile = Image.new("RGB", (width, WAVE), GROUND)
    try:
        waveform, _ = decode_audio(record.folder / record.material[sound].audio)
    except (KeyError, ValueError, OSError):
        return tile
    samples = np.nan_to_num(waveform.mean(0).numpy())
    peaks = [float(np.abs(part).max(initial=0.0)) for part in np.array_split(samples, width // 2)]
    pen, middle, top = ImageDraw.Draw(tile), WAVE / 2, max([*peaks, 1e-6])
    for x, peak in enumerate(peaks):
        half = peak / top * (middle - 2)
        pen.line([(2 * x, middle - half), (2 * x, middle + half)], fill=BLUE)
    return tile


def _save(record: Record, sheet: Image.Image, name: str) -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    record.write(name, buffer.getvalue())
