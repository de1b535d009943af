"""Table 3 and its controls: the same training with and without the momentum teacher, over several seeds."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import TrainingError
from ...files import write_atomically
from ..config import AlignConfig
from ..data.shards import ShardSet
from ..texts import TextEncoder
from ..train.run_file import FINAL, LOG
from .evaluate import Judged
from .judge import judge
from .report import table_picture

# What is compared. The readings differ from "w/o m" in two ways, a teacher and (for two of them) a block that both towers
# share, so each way has a control of its own.
ROWS: dict[str, dict] = {
    "w/o m": {"momentum_target": "frozen", "alpha": 0.0},
    "w/o m, shared block": {"momentum_target": "visual_shared", "alpha": 0.0},
    "alpha alone": {"momentum_target": "frozen"},
    "visual_shared": {"momentum_target": "visual_shared"},
    "audio": {"momentum_target": "audio"},
    "both": {"momentum_target": "both"},
    "head": {"momentum_target": "head"},
}
FIGURES = ("a2t", "a2v_r1", "a2v_r10", "v2a_r1", "l_t")
RESULT = "result.json"


@dataclass
class AblationRow:
    """One way of training, over seeds."""

    name: str
    runs: list[dict[str, float]]  # for each seed

    def mean(self, figure: str) -> float:
        return statistics.fmean(run[figure] for run in self.runs)

    def spread(self, figure: str) -> float:
        """Standard deviation of a sample; 0 for one run."""
        return statistics.stdev([run[figure] for run in self.runs]) if len(self.runs) > 1 else 0.0


def difference(row: AblationRow, first: AblationRow, figure: str) -> tuple[float, float]:
    """Mean and standard deviation of row minus first, seed by seed: what is drawn is the same for both."""
    apart = [one[figure] - other[figure] for one, other in zip(row.runs, first.runs, strict=True)]
    return statistics.fmean(apart), statistics.stdev(apart) if len(apart) > 1 else 0.0


def ablate(
    train_one: Callable[[AlignConfig, Path], bool],
    config: AlignConfig,
    shards: ShardSet,
    texts: TextEncoder,
    folder: Path,
    *,
    seeds: list[int],
    rows: list[str],
    split: str = "test",
    say: Callable[[str], None] = print,
) -> list[AblationRow]:
    """Train each row with each seed by `train_one(config, folder)` and judge its last step on `split`.

    What is done already is not done again. `train_one` returns False if it was stopped; then so is this, with an error.
    """
    unknown = set(rows) - ROWS.keys()
    if unknown:
        raise TrainingError(f"There is no row {sorted(unknown)[0]!r}", f"Known are {', '.join(ROWS)}")
    table = []
    for seed in seeds:
        for name in rows:
            place = folder / f"{name.replace('/', '').replace(',', '').replace(' ', '_')}-{seed}"
            if not (place / RESULT).exists():
                say(f"{name}, seed {seed}")
                if not train_one(dataclasses.replace(config, seed=seed, **ROWS[name]), place):
                    raise TrainingError(
                        "The ablation was stopped", "Every row is needed", "The same command continues it"
                    )
                figures = json.dumps(_figures(place, shards, texts, split))
                write_atomically(place / RESULT, lambda p, text=figures: p.write_text(text), TrainingError, "a result")
            table.append((name, json.loads((place / RESULT).read_text())))
    return [AblationRow(name, [run for other, run in table if other == name]) for name in rows]


def _figures(place: Path, shards: ShardSet, texts: TextEncoder, split: str) -> dict[str, float]:
    evaluation, _ = judge(Judged.open(place / FINAL), shards, split, texts)
    figures = {"a2t": evaluation.classification[0].all_clips, "a2v_r1": 0.0, "a2v_r10": 0.0, "v2a_r1": 0.0}
    if evaluation.retrieval:
        every = evaluation.retrieval[-1]
        figures |= {"a2v_r1": every.to_picture.r1, "a2v_r10": every.to_picture.r10, "v2a_r1": every.to_sound.r1}
    lines = [json.loads(line) for line in (place / LOG).read_text(encoding="utf-8").splitlines()]
    steps = [line.get("momentum", 0.0) for line in lines if "loss" in line]
    tail = steps[-max(1, len(steps) // 5) :]
    return {**figures, "l_t": statistics.fmean(tail)}


def ablation_text(table: list[AblationRow], about: str) -> str:
    """Mean and standard deviation of each figure, and what the paper prints."""
    head = ["", "A->T", "A->V R@1", "A->V R@10", "V->A R@1", "L_t, last fifth", f"A->T less {table[0].name}"]
    lines = [[row.name, *(f"{row.mean(f):.2f} +- {row.spread(f):.2f}" for f in FIGURES[:-1])] for row in table]
    for line, row in zip(lines, table, strict=True):
        apart = difference(row, table[0], "a2t")
        line += [f"{abs(row.mean('l_t')):.4f}", f"{apart[0]:+.2f} +- {apart[1]:.2f}"]
    lines.append(["x paper, w/o m (VGGSound)", "49.32", "27.04 (1.4K)", "64.75", "", "", ""])
    lines.append(["x paper, CAVT-MAE (VGGSound)", "52.16", "28.31 (1.4K)", "64.26", "", "", "+2.84"])
    widths = [max(len(line[n]) for line in [head, *lines]) for n in range(len(head))]
    grid = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [head, *lines]]
    runs = len(table[0].runs)
    first = f"Table 3: {about}; mean +- standard deviation over {runs} seeds, in percent"
    return "\n".join([first, grid[0], "-" * len(grid[0]), *grid[1:], "x: other data, not comparable"]) + "\n"


def write_ablation(table: list[AblationRow], about: str, folder: Path) -> str:
    """Write ablation.txt, .json and .png -> the text."""
    text = ablation_text(table, about)
    (folder / "ablation.txt").write_text(text, encoding="utf-8")
    values = {
        row.name: {f: {"mean": row.mean(f), "sd": row.spread(f)} for f in FIGURES} | {"runs": row.runs} for row in table
    }
    (folder / "ablation.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    table_picture(text).save(folder / "ablation.png")
    return text
