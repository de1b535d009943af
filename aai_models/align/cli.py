"""Arguments and printed output of the commands prepare, train, evaluate and ablate."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from ..devices import find_device
from ..errors import DataError
from .cavt_mae import CAVTMAE
from .config import PRESETS, AlignConfig
from .convert import read_state_dict
from .data.media import FramePicker
from .data.prepare import choose_folds, give_pictures, hold_out, prepare
from .data.shards import ShardSet, ShardSource
from .data.sources import LAYOUTS, read_clips
from .judge.ablate import ROWS, ablate, write_ablation
from .judge.evaluate import Judged, read_list
from .judge.judge import judge, own_texts, similarity_pictures
from .judge.report import write_all
from .momentum import TIED
from .self_test import self_test
from .texts import open_texts
from .train.processes import World
from .train.trainer import RunOptions, fingerprint, train


def bar(what: str):
    """A progress bar on the screen -> a function (done, total) that moves it; `tqdm` comes with transformers."""
    from tqdm import tqdm

    shown = tqdm(desc=what, unit="", dynamic_ncols=True, file=sys.stderr)

    def move(done: int, total: int) -> None:
        if shown.total != total:
            shown.reset(total)
        shown.update(done - shown.n)
        if done >= total:
            shown.refresh()

    return move


def need(package: str) -> None:
    """Raise `DataError` unless a package of the extra `train` is there."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise DataError(
            f"{package} is not installed", "Training sets need it", 'Install it: pip install "webdataset>=1.0"'
        )


def _folds(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part.strip()]


def command_prepare(options) -> None:
    need("webdataset")
    clips = read_clips(options.source, options.layout, options.media)
    if options.folds or options.test_folds:
        clips = choose_folds(clips, _folds(options.folds), _folds(options.test_folds))
    clips = hold_out(clips, options.heldout)
    if options.pictures:
        clips = give_pictures(clips, options.pictures, options.keep)
    picker = FramePicker(options.clip, str(find_device(options.device))) if options.clip else None
    if picker is None and any(clip.is_video for clip in clips):
        print("no --clip folder: frames are taken evenly spaced, not by what they show")
    report = prepare(
        clips,
        options.out,
        picker=picker,
        shard_size=options.shard_size,
        keep=options.keep,
        workers=options.workers,
        progress=bar("clips"),
    )
    print(f"{options.out}")
    for line in report.lines():
        print(f"  {line}")


def open_model(path: Path | None, config: AlignConfig) -> CAVTMAE:
    """The towers of a file, checked as the nodes check them; untrained ones of the config's size without a file."""
    if path is None:
        return CAVTMAE.fresh(config.tower, config.seed)
    model = CAVTMAE.from_state_dict({name: tensor.float() for name, tensor in read_state_dict(path).items()})
    with torch.inference_mode():
        self_test(model.encode_audio, encode_image=model.encode_image if model.has_images else None)
    return model


def open_source(place: str, model: CAVTMAE, config: AlignConfig, texts: str, cache: Path, gib: float, workers: int):
    """The clips of a prepared set for a training of `model`."""
    states = None
    if model.has_images:
        tied = config.momentum_target in TIED
        states = (model.config.image_tokens, model.config.dim) if tied else (model.config.dim,)
    return ShardSource(
        ShardSet.open(place),
        config,
        open_texts(texts, model.config.dim),
        states=states,
        tower=f"{fingerprint(model)} {config.precision}",
        cache=cache if gib else None,
        limit=int(gib * 2**30),
        workers=workers,
    )


def _tell_stand_ins(options) -> None:
    """Say what a training without published weights or texts cannot learn."""
    if options.init is None:
        print("no --init: the towers are untrained; such an image tower teaches little more than colours")
    if options.texts == "hash":
        print("no --texts: words are hashed, without meaning; labels that were not trained on are matched by chance")


def command_train(options) -> int:
    need("webdataset")
    config = PRESETS[options.preset].changed(options.set)
    world, begun = World.start(options.device), time.monotonic()
    try:
        model = open_model(options.init, config)
        cache = options.cache or options.out / "cache"
        source = open_source(options.data, model, config, options.texts, cache, options.cache_gib, options.workers)
        if world.rank == 0:
            print(f"{options.data}: {source.name}; pictures: {source.pictures}")
            print(f"{config.to_json()}")
            _tell_stand_ins(options)
        run = RunOptions(options.chunk, options.checkpoint_minutes, options.max_steps)
        progress = bar("steps") if world.rank == 0 else None
        result = train(model, source, config, options.out, world=world, options=run, progress=progress)
    finally:
        world.stop()
    if world.rank == 0:
        state = "finished" if result.finished else "stopped; the same command goes on"
        seconds = f"{time.monotonic() - begun:.0f} s"
        print(
            f"{state} at step {result.steps} after {seconds}; best held-out score {result.best:.2f} at step {result.best_step}"
        )
        print(f"the encoder: {result.encoder}")
    return 0 if result.finished else 130


def command_evaluate(options) -> None:
    need("webdataset")
    shards = ShardSet.open(options.data)
    device = World.start(options.device).device
    judged = Judged.open(options.encoder).to(device)
    texts = own_texts(judged, options.encoder, options.texts)
    probe_on = "train" if options.probe and "train" in shards.index["splits"] else ""
    more = {"probe_on": probe_on, "listed": read_list(options.list) if options.list else None}
    evaluation, features = judge(judged, shards, options.split, texts, progress=bar("clips"), **more)
    others = [(options.encoder, None if options.no_baseline else judged.untrained())]
    others += [(path, Judged.open(path).to(device)) for path in options.beside]
    for path, other in others:
        if other is not None:
            words = own_texts(other, path, options.texts)
            evaluation.baselines.append(judge(other, shards, options.split, words, **more)[0])
    text = write_all(evaluation, similarity_pictures(features, texts), options.out)
    print(text + f"written to {options.out}")


def command_ablate(options) -> None:
    need("webdataset")
    config = PRESETS[options.preset].changed(options.set)
    shards = ShardSet.open(options.data)
    cache = options.out / "cache"

    def train_one(changed: AlignConfig, folder: Path) -> bool:
        model = open_model(options.init, changed)
        source = open_source(options.data, model, changed, options.texts, cache, options.cache_gib, options.workers)
        run = RunOptions(options.chunk, tensorboard=False)
        return train(
            model, source, changed, folder, world=World.start(options.device), options=run, say=lambda _: None
        ).finished

    dim = open_model(options.init, config).config.dim
    table = ablate(
        train_one,
        config,
        shards,
        open_texts(options.texts, dim),
        options.out,
        seeds=_folds(options.seeds),
        rows=[name.strip() for name in options.rows.split(";")] if options.rows else list(ROWS),
        split=options.split,
    )
    about = f"preset {config.preset}, {config.epochs} epochs on {shards.name}; the last step on split {options.split}"
    print(write_ablation(table, about, options.out) + f"written to {options.out}")


def _training_arguments(sub, workers: int) -> None:
    sub.add_argument("data", help="a prepared set: its folder or URL")
    sub.add_argument("out", type=Path, help="folder of what comes out")
    sub.add_argument("--preset", default="paper", choices=PRESETS, help="settings to begin with (%(default)s)")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting; repeatable")
    sub.add_argument("--init", type=Path, help="a CAV-MAE or CAVT-MAE file to begin with (default: untrained towers)")
    sub.add_argument("--texts", default="hash", help="folder of SD1.x's CLIP text encoder, or `hash` (%(default)s)")
    sub.add_argument(
        "--workers", type=int, default=workers, help="processes that decode; 0: none but this one (%(default)s)"
    )
    sub.add_argument("--chunk", type=int, default=0, help="clips in memory at a time; 0: the whole batch (%(default)s)")
    sub.add_argument("--cache-gib", type=float, default=20.0, help="most of each kind kept; 0: nothing (%(default)s)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps or xpu (%(default)s)")


def _add_ablate(commands) -> None:
    sub = commands.add_parser("ablate", help="Table 3: trainings with and without the teacher, over seeds")
    _training_arguments(sub, workers=0)
    sub.add_argument("--seeds", default="0,1,2", help="(%(default)s)")
    sub.add_argument("--rows", default="", help=f"some of these, with ; between them: {'; '.join(ROWS)}")
    sub.add_argument("--split", default="test", help="judged on (%(default)s)")
    sub.set_defaults(run=command_ablate)


def _add_train(commands) -> None:
    sub = commands.add_parser(
        "train", help="tune the audio encoder towards pictures and words; the same command goes on"
    )
    _training_arguments(sub, workers=2)
    sub.add_argument("--cache", type=Path, help="folder of kept features (default: OUT/cache)")
    sub.add_argument("--checkpoint-minutes", type=float, default=10.0, help="between checkpoints (%(default)s)")
    sub.add_argument("--max-steps", type=int, default=0, help="stop there, as if by Ctrl-C; 0: never (%(default)s)")
    sub.set_defaults(run=command_train)


def _add_prepare(commands) -> None:
    sub = commands.add_parser(
        "prepare", help="a training set from folders or tables of clips with labels; the same command goes on"
    )
    sub.add_argument("source", type=Path, help="a folder, or a .csv table")
    sub.add_argument("out", type=Path, help="new folder for the training set")
    sub.add_argument(
        "--layout", default="auto", choices=["auto", *LAYOUTS], help="how the source is read (%(default)s)"
    )
    sub.add_argument("--media", type=Path, help="folder of the files that a table names (default: beside it)")
    sub.add_argument("--folds", default="", help="folds to train on, such as 1,2")
    sub.add_argument("--test-folds", default="", help="folds to test on, such as 3; other folds stay out")
    sub.add_argument("--pictures", type=Path, help="one folder of pictures for each label, for sounds without video")
    sub.add_argument("--clip", type=Path, help="folder of a CLIPModel that chooses a video's best frames")
    sub.add_argument("--keep", type=int, default=10, help="pictures of a clip (%(default)s)")
    sub.add_argument(
        "--heldout", type=float, default=0.02, help="share of recordings that choose the best checkpoint (%(default)s)"
    )
    sub.add_argument("--shard-size", type=int, default=1000, help="clips of a tar file (%(default)s)")
    sub.add_argument("--workers", type=int, default=4, help="threads that read (%(default)s)")
    sub.add_argument(
        "--device", default="auto", help="where CLIP looks at frames: auto, cpu, cuda, mps or xpu (%(default)s)"
    )
    sub.set_defaults(run=command_prepare)


def _add_evaluate(commands) -> None:
    sub = commands.add_parser("evaluate", help="Tables 1 and 2 of an encoder on a prepared set, beside the paper's")
    sub.add_argument("encoder", type=Path, help="a CAVT-MAE file, or a folder of an encoder of transformers")
    sub.add_argument("data", help="a prepared set: its folder or URL")
    sub.add_argument("--split", default="test", help="(%(default)s)")
    sub.add_argument("--texts", default="hash", help="as for train (%(default)s)")
    sub.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of the result (%(default)s)")
    sub.add_argument(
        "--list", type=Path, help="ids of one more subset, such as CAV-MAE's json of 5 clips of each class"
    )
    sub.add_argument("--probe", action="store_true", help="also a linear probe, fitted on the split train")
    sub.add_argument("--no-baseline", action="store_true", help="leave the untrained tower out")
    sub.add_argument(
        "--beside", type=Path, action="append", default=[], help="another encoder in the same table; repeatable"
    )
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps or xpu (%(default)s)")
    sub.set_defaults(run=command_evaluate)


def add_to(commands) -> None:
    """Add the commands to the parser's."""
    _add_prepare(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_ablate(commands)
