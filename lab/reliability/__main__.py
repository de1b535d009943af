"""Runs what tries to break the pack from the command line: `python dev.py soak|chaos|fuzz|flags`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path

from ..__main__ import load_pack

ROOMS = "aai_pack.lab.reliability"


def table(columns: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def part(name: str):
    """A module of this package, inside the pack under its alias."""
    return importlib.import_module(f"{ROOMS}.{name}")


def run_soak(host, options) -> list[str]:
    soak = part("soak")
    with part("serving").served(host) as at:
        found = soak.soak(at, 60 * options.minutes)
    print(table(soak.COLUMNS, found.rows()))
    print(f"medians: {found.parts[0].medians()}")
    print("files that came: " + ", ".join(f"{place} {count}" for place, count in sorted(found.left.items())))
    if options.picture:
        part("curves").draw(found, options.picture)
        print(f"drew {options.picture}")
    return found.findings


def run_chaos(host, options) -> list[str]:
    chaos = part("chaos")
    found = chaos.chaos(host, 60 * options.minutes, options.seed)
    print(table(chaos.COLUMNS, found.rows()))
    return found.findings


def run_fuzz(host, options) -> list[str]:
    fuzz = part("fuzz")
    found = fuzz.fuzz(host, options.count, options.seed)
    print(table(fuzz.COLUMNS, found.rows()))
    return found.findings


def run_flags(host, options) -> list[str]:
    flags = part("flags")
    found = list(flags.flags(host, options.group))
    print(table(flags.COLUMNS, [row.cells() for row in found]))
    return [finding for row in found for finding in row.findings]


RUNS = {"soak": run_soak, "chaos": run_chaos, "fuzz": run_fuzz, "flags": run_flags}


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__)
    parser.add_argument("command", choices=tuple(RUNS))
    parser.add_argument("--host", required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--group", default="")
    options = parser.parse_args()
    load_pack()
    report = importlib.import_module("aai_pack.devtools.report")
    hosts = importlib.import_module("aai_pack.devtools.hosts")
    started = time.monotonic()
    try:
        findings = RUNS[options.command](hosts.ensure_host(options.host, development=True), options)
    except report.DevError as error:
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
