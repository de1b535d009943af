"""The command line: `python -m aai_models.study make|figures|page|collect|size`; see docs/compare.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import ExplainedError

SERVER = "http://127.0.0.1:8188"


def command_make(options: argparse.Namespace) -> int:
    from .make import make
    from .plan import read_plan
    from .server import Server

    plan = read_plan(options.plan)
    folder = options.out or Path(options.plan.stem)
    record = make(plan, Server(options.server), folder)
    missing = record.missing()
    for text in missing:
        print(f"missing: {text}", file=sys.stderr)
    made = len(plan.cells()) - len(missing)
    print(f"{made} of {len(plan.cells())} pictures are there; open {folder / 'index.html'}")
    return 1 if missing else 0


def command_figures(options: argparse.Namespace) -> int:
    from .figures import write_figures
    from .instruments import published
    from .record import Record

    record = Record.open(options.folder)
    print(write_figures(record, published(options.models, options.cavt)))
    return 0


def command_page(options: argparse.Namespace) -> int:
    from .page import PageSettings, write_page
    from .record import Record

    settings = PageSettings(
        title=options.title,
        contact=options.contact,
        consent=options.consent.read_text(encoding="utf-8") if options.consent else "",
        per_sound=options.per_sound,
        checks=options.checks,
        pilot=options.pilot,
        single=options.single,
        methods=tuple(options.method or ()),
    )
    print(write_page(Record.open(options.folder), settings))
    return 0


def command_collect(options: argparse.Namespace) -> int:
    from .collect import CollectSettings, collect

    settings = CollectSettings(options.pilot, options.unfinished, options.edited, options.failed)
    print(collect(options.files, options.study, options.out, settings))
    return 0


def command_size(options: argparse.Namespace) -> int:
    from .collect import size_text

    print(size_text(options.effect, options.power, options.alpha, options.methods))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aai_models.study", description="Compares methods, and asks people."
    )
    commands = parser.add_subparsers(required=True)

    make = commands.add_parser("make", help="every sound through every method, by a running ComfyUI")
    make.add_argument("plan", type=Path, help="a JSON file; examples are in aai_models/study/plans")
    make.add_argument("--server", default=SERVER, help="address of ComfyUI (%(default)s)")
    make.add_argument("--out", type=Path, help="folder of the comparison (default: the plan's name)")
    make.set_defaults(run=command_make)

    figures = commands.add_parser("figures", help="AIS, AIC and other figures without people")
    figures.add_argument("folder", type=Path, help="what `make` wrote")
    figures.add_argument("--models", type=Path, default=Path("study_models"), help="folder of CLIP, Wav2CLIP, LPIPS")
    figures.add_argument("--cavt", type=Path, help="a CAVT-MAE file with both towers, for AIS in Wav2CLIP's place")
    figures.set_defaults(run=command_figures)

    page = commands.add_parser("page", help="the page that people fill in")
    page.add_argument("folder", type=Path, help="what `make` wrote")
    page.add_argument("--title", default="", help="what participants read as its title")
    page.add_argument("--contact", default="", help="whom participants can ask")
    page.add_argument("--consent", type=Path, help="a text file that is shown before the consent")
    page.add_argument("--per-sound", type=int, default=1, help="prompts and seeds drawn for each sound (%(default)s)")
    page.add_argument("--checks", type=int, default=2, help="attention checks among the ratings; 0: none (%(default)s)")
    page.add_argument("--method", action="append", help="a method to show, several times; default: all")
    page.add_argument("--pilot", action="store_true", help="a short page whose answers are not mixed with others")
    page.add_argument("--single", action="store_true", help="one file with pictures and sounds inside, as for phones")
    page.set_defaults(run=command_page)

    collect = commands.add_parser("collect", help="checks and merges answers, and reports")
    collect.add_argument("files", type=Path, nargs="+", help="answer files, or folders of them")
    collect.add_argument("--study", type=Path, help="the comparison's folder (default: sought above the files)")
    collect.add_argument("--out", type=Path, help="folder of the report (default: results in the comparison's folder)")
    collect.add_argument("--pilot", action="store_true", help="report the answers of a pilot")
    collect.add_argument("--unfinished", action="store_true", help="also count people who stopped half way")
    collect.add_argument(
        "--edited", action="store_true", help="also count files that were changed after they were saved"
    )
    collect.add_argument("--failed", type=float, default=0.5, help="share of failed checks that excludes (%(default)s)")
    collect.set_defaults(run=command_collect)

    size = commands.add_parser("size", help="how many participants a study needs")
    size.add_argument("--effect", type=float, required=True, help="Cohen's d of paired differences, such as 0.3")
    size.add_argument("--power", type=float, default=0.8, help="chance to find it (%(default)s)")
    size.add_argument("--alpha", type=float, default=0.05, help="of all tests together (%(default)s)")
    size.add_argument("--methods", type=int, default=4, help="methods that are compared (%(default)s)")
    size.set_defaults(run=command_size)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a known failure is one line on stderr and exit code 1, Ctrl-C 130."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except ExplainedError as error:
        print(f"aai_models.study: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept, and the same command goes on", file=sys.stderr)
        return 130
