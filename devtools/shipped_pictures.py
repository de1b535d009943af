"""The pictures that come with the pack: drawings that a sound can search, and photos to stylise. The pocket world draws them,
so they are under the pack's own licence; `python dev.py generate` writes them."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from .client import Client
from .hosts import ROOT
from .report import DevError

FOLDER = ROOT / "pocket" / "pictures"
PLACES = ("beach", "meadow", "snow", "city", "desert", "forest")
COLOURS = ("red", "blue", "yellow", "green", "purple")
THINGS = ("rooster", "dog", "cat", "fire", "bell", "train", "bird", "clock", "drum", "rain")
EACH = 2  # drawings of each thing
PHOTOS = 3  # photos of a forest, without a thing


def _scene(thing: str, place: str, colour: str, seed: int) -> dict:
    inputs = {"thing": thing, "place": place, "colour": colour, "style": "photo", "loudness": 0.6, "seed": seed}
    return {**inputs, "count": 1, "side": "middle", "second": "nothing"}


def scenes() -> dict[Path, dict]:
    """File below `FOLDER` -> what Pocket Scene is asked for it."""
    found = {}
    for number, thing in enumerate(THINGS):
        for copy in range(EACH):
            turn = number + copy
            scene = _scene(thing, PLACES[turn % len(PLACES)], COLOURS[turn % len(COLOURS)], turn)
            found[Path("things", f"{thing}-{copy + 1}.png")] = scene
    for number in range(PHOTOS):
        found[Path("photos", f"forest-{number + 1}.png")] = _scene("nothing", "forest", "red", number)
    return found


def write(client: Client) -> None:
    """Have the pack's own node draw them, and keep the pixels alone: ComfyUI writes the workflow into its files."""
    graph, names = {}, {}
    for number, (path, inputs) in enumerate(scenes().items()):
        names[f"{number}_save"] = path
        graph[f"{number}_draw"] = {"class_type": "AAI_PocketScene", "inputs": inputs}
        save = {"images": [f"{number}_draw", 0], "filename_prefix": path.stem}
        graph[f"{number}_save"] = {"class_type": "SaveImage", "inputs": save}
    run = client.run(graph)
    if run.status != "success":
        raise DevError(f"The pictures could not be drawn: {run.message}")
    for key, path in names.items():
        (file,) = run.outputs[key]["images"]
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = Image.open(io.BytesIO(client.fetch(file))).convert("RGB")
        pixels.save(FOLDER / path, optimize=True)
