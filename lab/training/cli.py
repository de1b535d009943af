"""The command line: `python -m lab train PART`, `python -m lab export`; see docs/pocket.md."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ...aai_models.devices import find_device
from ...aai_models.errors import ExplainedError
from .runs import Machine

PARTS = {
    "autoencoder": ("autoencoder", "AutoencoderConfig"),
    "pictures": ("diffusion", "DiffusionConfig"),
    "pairs": ("diffusion", "PairsConfig"),
    "styles": ("diffusion", "StylesConfig"),
    "judge": ("judge", "JudgeConfig"),
    "sounds": ("sounds", "SoundConfig"),
}


PER_BATCH = ("fresh", "pictures", "shapes")  # counts that go with the size of a batch


def with_batch(config, batch: int):
    """A config with another size of batch, and the learning rate that belongs to it.

    The rate goes with the square root of the size, as AdamW asks for (Malladi et al., 2022); counts of what is drawn for
    a batch go with the size.
    """
    share = batch / config.batch
    counts = {name: getattr(config, name) for name in PER_BATCH if isinstance(getattr(config, name, None), int)}
    counts = {name: max(1, round(share * count)) for name, count in counts.items()}
    return replace(config, batch=batch, rate=config.rate * share**0.5, **counts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Trains the pocket models.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train one part, or go on with it")
    train.add_argument("part", choices=PARTS)
    train.add_argument("--out", type=Path, default=Path("pocket_runs"), help="folder of checkpoints, logs and curves")
    train.add_argument("--minutes", type=float, help="how long to train")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=1, help="of the processor (%(default)s)")
    train.add_argument("--device", default="cpu", help="where to train: cpu, cuda, mps, xpu or auto (%(default)s)")
    train.add_argument("--workers", type=int, default=0, help="processes that draw; 0: none (%(default)s)")
    train.add_argument("--batch", type=int, help="another size of batch; the learning rate goes with its square root")
    train.add_argument("--recordings", type=Path, help="sounds: a folder of ESC-10's recordings, folds 1-3 are used")
    train.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3], choices=(1, 2, 3), help="of the recordings")
    export = commands.add_parser("export", help="write the file of weights from finished trainings")
    export.add_argument("--out", type=Path, default=Path("pocket_runs"), help="the folder that `train` wrote")
    art = commands.add_parser("art", help="draw icon and banner of the pack's page in ComfyUI's registry")
    art.add_argument("--out", type=Path, default=Path("assets"), help="folder (%(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a known failure is one line on stderr and exit code 1, Ctrl-C 130."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "export":
            print(importlib.import_module("..training.export", __package__).export(options.out))
        elif options.command == "art":
            importlib.import_module("..art", __package__).main(options.out)
        else:
            print(_train(options))
        return 0
    except ExplainedError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept, and the same command goes on", file=sys.stderr)
        return 130


def _train(options: argparse.Namespace) -> Path:
    torch.set_num_threads(options.threads)
    module_name, config_name = PARTS[options.part]
    module = importlib.import_module(f"..training.{module_name}", __package__)
    config = replace(getattr(module, config_name)(), seed=options.seed)
    if options.minutes:
        config = replace(config, minutes=options.minutes)
    if options.batch:
        config = with_batch(config, options.batch)
    if hasattr(config, "folds"):
        config = replace(config, folds=tuple(options.folds))
    extra = {"recordings": options.recordings} if options.part == "sounds" else {}
    machine = Machine(find_device(options.device), max(0, options.workers))
    return module.train(config, options.out, machine=machine, **extra)
