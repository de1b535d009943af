"""Time until a word is good: the presets `quick` and `quality` against diffusers' loop, on the pocket models.

Environment: AAI_THINGS, things of the pocket world with commas between (frog, which no word names).
"""

from __future__ import annotations

import os

from devtools.hosts import ensure_host

from .adapt_run import child

PICTURES = 16  # that the judge looks at


def measure(version: str) -> dict:
    host, rows = ensure_host(version, development=True), []
    for thing in os.environ.get("AAI_THINGS", "frog").split(","):
        found = child(host, "word", "word_child", thing=thing, pictures=PICTURES)
        peer = found["runs"]["peer"]
        best = min(peer, key=lambda mark: mark["loss"])
        for name, marks in found["runs"].items():
            reached = next((m for m in marks if m["loss"] <= best["loss"]), None)
            for mark in marks:
                share = f"{mark['seconds'] / best['seconds']:.3f}" if mark is reached and mark is not best else ""
                seen = f"{mark['seen']:.2f}" if "seen" in mark else ""
                cells = [thing, name, str(mark["step"]), f"{mark['seconds']:.1f}", f"{mark['loss']:.4f}", seen, share]
                rows.append(cells)
        rows.append([thing, "(the bridge, once for each CLIP)", "", f"{found['bridge']:.1f}", "", "", ""])
    return {
        "title": "word: pocket models, 5 references, 128 px, one thread, processor time; loss on 16 unseen drawings, "
        f"the judge on {PICTURES} pictures; diffusers at its documented settings (5e-4 scaled by 4, 27 templates)",
        "columns": ["thing", "by", "step", "seconds", "loss", "judge", "of the peer's time to its best"],
        "rows": rows,
        "goal": "the peer's best loss in 0.2 of its time",
    }
