"""The scoreboard of the pocket world: does the meaning of a sound reach the picture?

Environment: AAI_POCKET_RUNS, a folder for the judges (trained there once, some minutes); AAI_RECORDINGS, a folder of
ESC-10's recordings; AAI_SHEETS, a folder for sheets of pictures; AAI_ROWS, some of plain_words, known_sounds, sentences,
two_sounds, loudness, heat_maps, retrieval, hidden_things, recordings, trained_words with commas between (all).
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from devtools.cache import cache_root
from pocket.__main__ import load_pack

TITLE = "Meaning: the pocket models before a judge that has only seen drawings"


def measure(version: str) -> dict:
    """The table of all rows; `version` does not matter, the models run outside the host."""
    load_pack()
    board = importlib.import_module("aai_pack.pocket.scoreboard.board")
    table = {"title": TITLE, "columns": board.COLUMNS, "rows": [], "goal": "in the table"}
    runs = Path(os.environ.get("AAI_POCKET_RUNS") or cache_root() / "pocket_runs")
    sheets, recordings = os.environ.get("AAI_SHEETS"), os.environ.get("AAI_RECORDINGS")
    exam = board.examine(runs, recordings=Path(recordings) if recordings else None)
    return table | {"rows": board.run(exam, Path(sheets) if sheets else None, os.environ.get("AAI_ROWS", ""))}
