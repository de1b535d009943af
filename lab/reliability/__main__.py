"""Runs a soak, chaos or fuzz from the command line: `python dev.py soak|chaos|fuzz`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path

from devtools.hosts import ensure_host
from devtools.report import DevError


def table(columns: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def run_soak(options) -> list[str]:
    from . import curves, serving, soak

    with serving.served(ensure_host(options.host, development=True)) as at:
        found = soak.soak(at, 60 * options.minutes)
    print(table(soak.COLUMNS, found.rows()))
    print(f"medians: {found.parts[0].medians()}")
    print("files that came: " + ", ".join(f"{place} {count}" for place, count in sorted(found.left.items())))
    if options.picture:
        curves.draw(found, options.picture)
        print(f"drew {options.picture}")
    return found.findings


def run_chaos(options) -> list[str]:
    chaos = importlib.import_module("lab.reliability.chaos")
    found = chaos.chaos(ensure_host(options.host, development=True), 60 * options.minutes)
    print(table(chaos.COLUMNS, found.rows()))
    return found.findings


def run_fuzz(options) -> list[str]:
    fuzz = importlib.import_module("lab.reliability.fuzz")
    found = fuzz.fuzz(ensure_host(options.host, development=True), options.count, options.seed)
    print(table(fuzz.COLUMNS, found.rows()))
    return found.findings


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__)
    parser.add_argument("command", choices=("soak", "chaos", "fuzz"))
    parser.add_argument("--host", required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    try:
        findings = globals()[f"run_{options.command}"](options)
    except DevError as error:
        print(f"dev.py {options.command}: {error}", file=sys.stderr)
        return 1
    about = {"host": options.host, "python": platform.python_version(), "seconds": round(time.monotonic() - started)}
    print(json.dumps(about))
    for finding in findings:
        print(f"FOUND  {finding}")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
