"""Runs the scoreboard, or the paper's figures, in a ComfyUI without a server: prints lines of JSON, the last is the result.

    python inside.py board|figures ARGUMENTS_AS_JSON

The working folder is a ComfyUI tree.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def boot(folder: str) -> None:
    """ComfyUI's settings, and the pack as `aai_pack`."""
    sys.path[0] = str(Path.cwd())  # and not this script's folder
    spec = importlib.util.spec_from_file_location(
        "aai_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["aai_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["aai_pack"])
    importlib.import_module("aai_pack.devtools.in_process").boot(Path(folder))


def examined(arguments: dict, second: bool):
    board = importlib.import_module("aai_pack.lab.scoreboard.board")
    words = importlib.import_module("aai_pack.lab.scoreboard.words")
    recordings = arguments["recordings"] and Path(arguments["recordings"])
    return board.examine(Path(arguments["runs"]), arguments["repeats"], recordings, second, words.Hosted)


def board(arguments: dict) -> list:
    """All rows, or those named."""
    own, words, labels, edits, looks, speed = (
        importlib.import_module(f"aai_pack.{name}")
        for name in (
            "lab.scoreboard.board",
            *(f"lab.scoreboard.{n}" for n in ("words", "labels", "edits", "looks", "speed")),
        )
    )
    measures = (
        *own.ROWS,
        labels.labels,
        words.trained_words,
        edits.editing,
        edits.stylisation,
        looks.loudness,
        looks.heat_maps,
        speed.speed,
    )
    measures = chosen(measures, arguments["only"])
    exam = examined(arguments, second=arguments["repeats"] >= 12)
    return own.run(exam, Path(arguments["sheets"]), measures, lambda cells: print("  ".join(cells), flush=True))


def chosen(functions: tuple, only: str) -> list:
    """Those that `only` names, with commas between; all for an empty text."""
    known = {function.__name__: function for function in functions}
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"AAI_ROWS names {', '.join(unknown)}. There are {', '.join(known)}. Choose some of them.")
    return [function for name, function in known.items() if not wanted or name in wanted]


def figures(arguments: dict) -> list:
    """The paper's figures as sheets in a folder."""
    paper = importlib.import_module("aai_pack.lab.scoreboard.paper")
    wanted = chosen(paper.FIGURES, arguments["only"])
    return paper.make(examined(arguments, second=False), Path(arguments["sheets"]), wanted)


if __name__ == "__main__":
    command, settings = {"board": board, "figures": figures}[sys.argv[1]], json.loads(sys.argv[2])
    boot(settings["folder"])
    print("\n" + json.dumps(command(settings)))
