"""The scoreboard of the pocket world: does the meaning of a sound reach the picture?

Environment: AAI_POCKET_RUNS, a folder for the second judge and the finder (trained there once, some minutes);
AAI_RECORDINGS, a folder of ESC-10's recordings; AAI_SHEETS, a folder for sheets of pictures; AAI_ROWS, some of plain_words,
known_sounds, sentences, two_sounds, mixtures, hidden_things, retrieval, recordings, labels, trained_words, editing,
stylisation, loudness, heat_maps, speed with commas between (all); AAI_REPEATS, pictures of each named thing (12, so that a
row has 216).
`--pictures docs` writes the sheets that docs/pocket.md shows.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from devtools.cache import cache_root

from ..scoreboard import outside

TITLE = "Meaning: the pocket models before a judge that has only seen drawings"
COLUMNS = ["row", "figure", "95 %", "n", "goal", "plain word", "random token", "chance"]
SHOWN = {
    "world": "pocket_world",
    "plain_words": "pocket_plain",
    "known_sounds": "pocket_sounds",
    "recordings": "pocket_recordings",
    "trained_words": "pocket_words",
    "editing": "pocket_edits",
    "stylisation": "pocket_styles",
    "loudness": "pocket_loudness",
    "heat_maps": "pocket_heat",
}  # sheet -> its name in docs


def sheets() -> Path:
    return Path(os.environ.get("AAI_SHEETS") or cache_root() / "pocket_sheets")


def measure(version: str) -> dict:
    """The table of all rows, made inside ComfyUI `version`."""
    rows = outside.start(version, "board", sheets())
    return {"title": TITLE, "columns": COLUMNS, "rows": rows, "goal": "in the table"}


def draw(result: dict, folder: Path) -> list[Path]:
    """Copy the sheets that there are."""
    drawn = []
    for sheet, name in SHOWN.items():
        path = sheets() / "small" / f"{sheet}.png"
        if path.is_file():
            drawn.append(Path(shutil.copy(path, folder / f"{name}.png")))
    return drawn
