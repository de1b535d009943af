"""The pictures of README and docs, from a run of the demo: `python dev.py demo --pictures assets`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .page import peaks_of
from .report import DevError

SIDE, WIDE, GAP = 192, 300, 12  # of pictures and of drawings, in pixels
GROUND, BLUE, RED, GREY = (250, 250, 250), (59, 110, 165), (170, 51, 51), (201, 162, 77)
# A picture of the documentation that is a file of the demo: example, and how that file begins.
COPIES = {
    "edit.png": ("07 Sound in a scene", "aai_edit"),
    "heat.png": ("07 Sound in a scene", "aai_heat_map"),
    "loudness.png": ("13 From soft to loud", "aai_loudness_strip"),
    "stylised.png": ("09 Photo in the style of a sound", "aai_stylised_photo"),
    "found.png": ("04 Sound finds pictures", "aai_found"),
}
# One that is put together: example, and how its results begin.
STRIPS = {
    "demo.png": ("01 Sound to picture", "aai_sound_to_picture"),
    "generated.png": ("11 Four pictures at once", "aai_pocket"),
}


def write(entries: list[dict], files: Path, folder: Path) -> None:
    """Write the pictures into a folder; raises `DevError` where the demo did not make one."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {entry["name"]: entry for entry in entries}
    for name, (example, start) in COPIES.items():
        with Image.open(files / _results(known[example], start, name)[0]) as picture:
            pixels = picture.convert("RGB")  # without the workflow that ComfyUI writes into the file
        pixels.save(folder / name, optimize=True)
    for name, (example, start) in STRIPS.items():
        shown = known[example]["page"]
        tiles = [wave(files / sound) for sound in shown["sounds"]]
        tiles += [Image.open(files / reference) for reference in shown["references"]]
        tiles += [curve(shown["losses"])] if shown["losses"] else []
        tiles += [Image.open(files / result) for result in _results(known[example], start, name)]
        row(tiles).save(folder / name, optimize=True)


def _results(entry: dict, start: str, name: str) -> list[str]:
    found = [file for file in entry["outputs"] if file.startswith(start)]
    if not found:
        raise DevError(
            f"{entry['name']} made nothing for {name}: {entry.get('error', entry['status'])}. Look at its graph."
        )
    return found


def row(tiles: list[Image.Image]) -> Image.Image:
    """Tiles of one height beside each other."""
    tiles = [t.convert("RGB").resize((round(t.width * SIDE / t.height), SIDE), Image.Resampling.LANCZOS) for t in tiles]
    strip = Image.new("RGB", (sum(t.width + GAP for t in tiles) + GAP, SIDE + 2 * GAP), GROUND)
    x = GAP
    for tile in tiles:
        strip.paste(tile, (x, GAP))
        x += tile.width + GAP
    return strip


def wave(path: Path) -> Image.Image:
    """A sound's waveform."""
    tile, middle = Image.new("RGB", (WIDE, SIDE), (240, 240, 240)), SIDE / 2
    draw, peaks = ImageDraw.Draw(tile), peaks_of(path, WIDE // 2)
    top = max([*peaks, 1e-6])
    for x, peak in enumerate(peaks):
        half = peak / top * (middle - 8)
        draw.line([(2 * x, middle - half), (2 * x, middle + half)], fill=BLUE)
    return tile


def curve(losses: list[float]) -> Image.Image:
    """The loss of each step, and its running mean."""
    tile, values = Image.new("RGB", (WIDE, SIDE), (240, 240, 240)), np.asarray(losses)
    draw, window = ImageDraw.Draw(tile), max(1, len(losses) // 10)
    mean = np.convolve(np.pad(values, (window - 1, 0), mode="edge"), np.ones(window) / window, mode="valid")
    low, high = float(values.min()), float(max(values.max(), values.min() + 1e-9))
    x = np.linspace(8, WIDE - 8, len(values))
    heights = {"dots": values, "line": mean}
    heights = {kind: SIDE - 10 - (v - low) / (high - low) * (SIDE - 20) for kind, v in heights.items()}
    for a, b in zip(x, heights["dots"], strict=True):
        draw.ellipse((a - 1.5, b - 1.5, a + 1.5, b + 1.5), fill=GREY)
    draw.line(list(zip(x.tolist(), heights["line"].tolist(), strict=True)), fill=RED, width=2)
    return tile
