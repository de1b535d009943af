"""The pictures of README and docs that the pocket models make: `dev.py bench figures --pictures assets`.

The table is how long each example takes; the pictures are drawn from what it put out.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from aai_models.audio.decode import decode_audio
from aai_models.audio.overview import draw_overview
from aai_models.draw import contact_sheet
from devtools.demo import run_examples
from devtools.report import DevError

# File -> example, and how the one picture begins that is taken from it; None draws all that went in and came out.
FIGURES = {
    "demo.png": ("1_sound_to_picture", None),
    "generated.png": ("11_pocket_sound_to_picture", None),
    "edit.png": ("7_sound_in_a_scene", "aai_edit"),
    "heat.png": ("7_sound_in_a_scene", "aai_heat_map"),
    "loudness.png": ("13_from_soft_to_loud", "aai_loudness_strip"),
    "stylised.png": ("9_photo_in_the_style_of_a_sound", "aai_stylised_photo"),
    "found.png": ("4_sound_finds_pictures", "aai_found"),
}
SIDE = 240  # of a tile, in pixels


def measure(version: str) -> dict:
    files = Path(tempfile.mkdtemp(prefix="aai-figures-"))
    atexit.register(shutil.rmtree, files, ignore_errors=True)
    entries = run_examples(version, files, None, "pocket")
    return {
        "title": f"figures: every example on the pocket models, ComfyUI {version}",
        "columns": ["example", "outcome", "seconds"],
        "rows": [[entry["name"], entry["status"], entry["seconds"]] for entry in entries],
        "goal": "every example succeeds",
        "entries": entries,
        "files": str(files),
    }


def draw(result: dict, folder: Path) -> list[Path]:
    """Every figure, written into `folder`; raises `DevError` where its example failed."""
    entries = {entry["name"]: entry for entry in result["entries"]}
    files, drawn = Path(result["files"]), []
    for figure, (example, prefix) in FIGURES.items():
        entry = entries[example]
        if entry["status"] != "success":
            raise DevError(f"{example} failed: {entry.get('error', '')}. {figure} was not drawn.")
        picture = _everything(entry, files) if prefix is None else _pixels(files / _named(entry, prefix))
        picture.save(folder / figure, optimize=True)  # pixels alone: ComfyUI's own file also holds the workflow
        drawn.append(folder / figure)
    return drawn


def _named(entry: dict, prefix: str) -> str:
    found = [name for name in entry["outputs"] if name.startswith(prefix) and name.endswith(".png")]
    if not found:
        raise DevError(f"{entry['name']} put out no {prefix}, but {', '.join(entry['outputs']) or 'nothing'}.")
    return found[0]


def _everything(entry: dict, files: Path) -> Image.Image:
    """Sounds, references and results side by side."""
    tiles, captions = [], []
    for name in entry["page"]["sounds"]:
        waveform, sample_rate = decode_audio(files / name)
        tiles += draw_overview(waveform.unsqueeze(0), sample_rate, 2 * SIDE, 2 * SIDE)
        captions.append("the sound")
    for name in entry["page"]["references"]:
        tiles.append(_pixels(files / name))
        captions.append("a reference picture")
    for name in entry["outputs"]:
        if name.endswith(".png"):
            tiles.append(_pixels(files / name))
            # Beside pictures, these examples put out the training's curve, as a preview of the host's.
            captions.append(next(iter(entry["page"]["prompts"]), "") if name.startswith("aai_") else "the loss")
    return contact_sheet(tiles, captions, 5, SIDE)


def _pixels(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
