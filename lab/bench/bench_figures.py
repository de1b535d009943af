"""The paper's figures on the pocket models: sheets that can be laid beside it.

Environment: AAI_SHEETS, the folder for the sheets (`figures`); AAI_ROWS, some of figure_3, figure_4, figure_6 ... figure_11.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..scoreboard import outside

COLUMNS = ["figure", "what it shows", "right, says the judge", "sheet"]


def measure(version: str) -> dict:
    """Draw the figures; a line for each."""
    folder = Path(os.environ.get("AAI_SHEETS") or "figures")
    rows = outside.start(version, "figures", folder)
    title = f"Figures 3, 4 and 6 to 11 of the paper, on the pocket models: {folder}"
    return {"title": title, "columns": COLUMNS, "rows": rows, "goal": "to be looked at beside the paper's"}
