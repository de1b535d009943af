"""What each setting of Adapt does to the loss on drawings that no run has seen; the pocket models, three seeds.

Environment: AAI_GROUPS, some of the groups below with commas between (all); AAI_THING, a thing of the pocket world (frog,
which no word names).
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from PIL import Image, ImageDraw

from devtools.hosts import ensure_host

from .adapt_run import child

SEEDS = (0, 1, 2)
BASE = {"steps": 100, "learning_rate": 0.02, "evaluate_every": 20, "held_out": 8}
# Group -> {what is changed: settings}; the rest is `BASE`.
GROUPS = {
    "mode": {name: {"mode": name} for name in ("sound_and_adapter", "adapter_only", "sound_only")},
    "norm control": {name: {"norm_control": name} for name in ("free", "renorm", "dti")},
    "scale": {"clip_norm": {}, "unit": {"scale": "unit"}, "raw": {"scale": "raw"}},
    "bridge": {"none": {}, "ridge": {"bridge": "ridge"}, "ridge, zero": {"bridge": "ridge", "start": "zero"}},
    "start": {
        **{name: {"start": name} for name in ("random", "zero", "warm_start", "best_word")},
        "words": {"start": "words", "words": "thing"},
    },
    "25 steps from": {
        **{name: {"steps": 25, "start": name} for name in ("random", "warm_start", "best_word")},
        "ridge, zero": {"steps": 25, "start": "zero", "bridge": "ridge"},
    },
    "timesteps": {name: {"timesteps": name} for name in ("uniform", "stratified", "composition", "middle")},
    "vectors": {str(n): {"vectors": n} for n in (1, 2, 4, 8)},
    "pictures": {str(n): {"shown": n} for n in (1, 2, 3, 5)},
    "steps": {str(n): {"steps": n} for n in (50, 100, 200, 400, 800)},
}
INK, MARK, GRID, GROUND = (60, 60, 60), (24, 90, 169), (216, 216, 216), (250, 250, 250)


def measure(version: str) -> dict:
    asked = os.environ.get("AAI_GROUPS", "").split(",")
    thing = os.environ.get("AAI_THING", "frog")
    runs = [
        (f"{group}: {name}", {**BASE, **changes, "seed": seed})
        for group, values in GROUPS.items()
        if asked == [""] or group in asked
        for name, changes in values.items()
        for seed in SEEDS
    ]
    found = child(ensure_host(version, development=True), "ablation", "word_child", thing=thing, runs=runs)
    rows = []
    for name, results in found.items():
        losses = [loss for loss, _ in results]
        share = statistics.fmean(share for _, share in results)
        rows.append([name, f"{statistics.fmean(losses):.4f}", f"{statistics.stdev(losses):.4f}", f"{share:.2f}"])
    return {
        "title": f"ablation: pocket models, a word for {thing} from 5 references, {BASE['steps']} steps at "
        f"{BASE['learning_rate']} unless said otherwise, {len(SEEDS)} seeds; loss on 16 unseen drawings",
        "columns": ["", "loss", "spread (sd)", "|s f_a| / |v*|"],
        "rows": rows,
        "goal": "none: which setting learns what the objective asks for",
    }


def draw(result: dict, folder: Path) -> list[Path]:
    """The table as dots with their spread, in `folder`."""
    from aai_models.draw import font

    rows = [(name, float(mean), float(spread)) for name, mean, spread, _ in result["rows"]]
    low = min(mean - spread for _, mean, spread in rows)
    high = max(mean + spread for _, mean, spread in rows)
    left, right, line, letters = 250, 780, 24, font(14)
    picture = Image.new("RGB", (right + 40, line * (len(rows) + 2)), GROUND)
    pen = ImageDraw.Draw(picture)

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / max(high - low, 1e-9)

    for value in (low, (low + high) / 2, high):
        pen.line((place(value), 0, place(value), line * len(rows)), fill=GRID)
        pen.text((place(value) - 20, line * len(rows) + 8), f"{value:.4f}", fill=INK, font=letters)
    for number, (name, mean, spread) in enumerate(rows):
        y = line * number + line / 2
        pen.text((8, y - 8), name, fill=INK, font=letters)
        pen.line((place(mean - spread), y, place(mean + spread), y), fill=MARK, width=2)
        pen.ellipse((place(mean) - 5, y - 5, place(mean) + 5, y + 5), fill=MARK)
    path = folder / "adapt_ablation.png"
    picture.save(path)
    return [path]
