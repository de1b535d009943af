"""The command line: `python -m lab train PART`, `python -m lab export`; see docs/pocket.md."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import replace
from pathlib import Path

import torch

PARTS = {
    "autoencoder": ("autoencoder", "AutoencoderConfig"),
    "pictures": ("diffusion", "DiffusionConfig"),
    "pairs": ("diffusion", "PairsConfig"),
    "styles": ("diffusion", "StylesConfig"),
    "judge": ("judge", "JudgeConfig"),
    "sounds": ("sounds", "SoundConfig"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Trains the pocket models.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train one part, or go on with it")
    train.add_argument("part", choices=PARTS)
    train.add_argument("--out", type=Path, default=Path("pocket_runs"), help="folder of checkpoints, logs and curves")
    train.add_argument("--minutes", type=float, help="how long to train")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=1)
    train.add_argument("--recordings", type=Path, help="sounds: a folder of ESC-10's recordings, folds 1-3 are used")
    train.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3], choices=(1, 2, 3), help="of the recordings")
    export = commands.add_parser("export", help="write the file of weights from finished trainings")
    export.add_argument("--out", type=Path, default=Path("pocket_runs"), help="the folder that `train` wrote")
    arguments = parser.parse_args()
    if arguments.command == "export":
        print(importlib.import_module("..training.export", __package__).export(arguments.out))
        return 0
    torch.set_num_threads(arguments.threads)
    module_name, config_name = PARTS[arguments.part]
    module = importlib.import_module(f"..training.{module_name}", __package__)
    config = replace(getattr(module, config_name)(), seed=arguments.seed)
    if arguments.minutes:
        config = replace(config, minutes=arguments.minutes)
    if hasattr(config, "folds"):
        config = replace(config, folds=tuple(arguments.folds))
    extra = {"recordings": arguments.recordings} if arguments.part == "sounds" else {}
    print(module.train(config, arguments.out, **extra))
    return 0
