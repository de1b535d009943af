"""The scoreboard of the pocket world: does the meaning of a sound reach the picture?

Environment: AAI_POCKET_RUNS, a folder for the second judge and the finder (trained there once, some minutes);
AAI_RECORDINGS, a folder of ESC-10's recordings; AAI_SHEETS, a folder for sheets of pictures; AAI_ROWS, some of plain_words,
known_sounds, sentences, two_sounds, hidden_things, retrieval, recordings, trained_words, editing, stylisation, loudness,
heat_maps, speed with commas between (all); AAI_REPEATS, pictures of each named thing (12, so that a row has 216).
"""

from __future__ import annotations

from .meaning import outside

TITLE = "Meaning: the pocket models before a judge that has only seen drawings"
COLUMNS = ["row", "figure", "95 %", "n", "goal", "plain word", "random token", "chance"]


def measure(version: str) -> dict:
    """The table of all rows, made inside ComfyUI `version`."""
    return {"title": TITLE, "columns": COLUMNS, "rows": outside.start(version, "board"), "goal": "in the table"}
