"""`figures`: what can be measured without people, as text and as `figures.json`."""

from __future__ import annotations

import json
import math

from .measures import Instruments, Measure, measure_all
from .overview import write_overview
from .record import Record
from .tables import markdown, pairs_table, with_interval

FILE = "figures.json"


def write_figures(record: Record, tools: Instruments) -> str:
    """Measure a comparison, write `figures.json` and `index.html` into its folder; the report."""
    measures = measure_all(record, tools)
    content = {
        "measures": [_as_json(measure) for measure in measures],
        "missing": record.missing(),
    }
    record.write(FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
    write_overview(record, measures)
    return report(record, measures)


def report(record: Record, measures: list[Measure]) -> str:
    """Tables of every measure, the tests between methods, and what was not measured and why."""
    plan = record.plan
    parts = [
        f"{plan.name}: {len(plan.sounds)} sounds, {len(plan.prompts)} prompts, {len(plan.seeds)} seeds",
        figures_table(record, measures),
        "Values: the mean over sounds, with a bootstrap's 95 % interval over sounds.",
    ]
    for measure in measures:
        if not measure.absent and measure.values:
            parts.append(f"{measure.title}\n\n{pairs_table(measure.pairs(), 'sounds')}")
    parts += [f"not measured: {measure.title}. {measure.absent}" for measure in measures if measure.absent]
    parts += [f"{measure.key}: {note}" for measure in measures for note in measure.notes]
    missing = record.missing()
    if missing:
        parts.append("\n".join([f"{len(missing)} pictures are missing, and nothing stands in for them:", *missing]))
    return "\n\n".join(parts)


def figures_table(record: Record, measures: list[Measure]) -> str:
    known = [measure for measure in measures if not measure.absent and measure.values]
    if not known:
        return "No figure could be computed."
    estimates = [measure.estimates() for measure in known]
    rows = [
        (method.name, *(with_interval(found[method.name]) for found in estimates)) for method in record.plan.methods
    ]
    rows.append(("encoder", *(measure.encoder for measure in known)))
    return markdown(("method", *(measure.key for measure in known)), rows)


def _as_json(measure: Measure) -> dict:
    pairs = measure.pairs() if measure.values else []
    return {
        **{"key": measure.key, "title": measure.title, "encoder": measure.encoder, "absent": measure.absent},
        "methods": {name: _known(e._asdict()) for name, e in measure.estimates().items()} if measure.values else {},
        "pairs": [_known(pair._asdict()) for pair in pairs],
        "values": measure.values,
    }


def _known(values: dict) -> dict:
    """JSON has no nan."""
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
