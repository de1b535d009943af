"""Runs the benchmarks by name and prints one table each."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

from devtools import device
from devtools.report import DevError, step

BENCHMARKS = (
    *("import", "stock", "fbank", "loudness", "tower", "library", "decode"),
    *("attention", "edit", "bank", "scale", "batch", "adapt", "align", "meaning"),
)
# Minutes of training, figures that need recordings, or memory alone: they say nothing about speed.
BY_NAME = ("ablation", "word", "figures", "hear", "memory")


def run(name: str, version: str) -> dict:
    """The figures of one benchmark: {"title", "columns", "rows", "goal"}."""
    module = importlib.import_module(f"lab.bench.bench_{name}")
    with step(f"benchmark {name}"):
        return module.measure(version)


def table(result: dict) -> str:
    rows = [result["columns"], *[[str(cell) for cell in row] for row in result["rows"]]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([result["title"], *lines, f"goal: {result['goal']}", ""])


def draw_pictures(name: str, result: dict, options) -> None:
    """Pictures of a benchmark that has some: drawn from its result, or made by runs of their own."""
    module = importlib.import_module(f"lab.bench.bench_{name}")
    options.pictures.mkdir(parents=True, exist_ok=True)
    drawn = module.draw(result, options.pictures) if hasattr(module, "draw") else []
    drawn += module.pictures(options.host, options.pictures) if hasattr(module, "pictures") else []
    for path in drawn:
        print(f"drew {path}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=(*BENCHMARKS, *BY_NAME))
    parser.add_argument("--host", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for the pictures of benchmarks that draw some")
    options = parser.parse_args()
    try:
        results = {name: run(name, options.host) for name in ([options.name] if options.name else BENCHMARKS)}
    except DevError as error:
        print(f"dev.py bench: {error}", file=sys.stderr)
        return 1
    for name, result in results.items():
        print(table(result))
        if options.pictures:
            draw_pictures(name, result, options)
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "host_version": options.host}
        machine["device"] = device.current()
        options.json.write_text(json.dumps({**machine, "results": results}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
