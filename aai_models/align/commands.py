"""What the commands prepare, train, evaluate and ablate take, and their words on the screen."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import DataError
from .tables import LAYOUTS, read_clips


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
    from .media import FramePicker
    from .prepare import choose_folds, give_pictures, hold_out, prepare

    need("webdataset")
    clips = read_clips(options.source, options.layout, options.media)
    if options.folds or options.test_folds:
        clips = choose_folds(clips, _folds(options.folds), _folds(options.test_folds))
    clips = hold_out(clips, options.heldout)
    if options.pictures:
        clips = give_pictures(clips, options.pictures, options.keep)
    picker = FramePicker(options.clip) if options.clip else None
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


def _add_prepare(commands) -> None:
    sub = commands.add_parser("prepare", help="a training set from folders or tables of clips with labels")
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
    sub.set_defaults(run=command_prepare)


def add_to(commands) -> None:
    """Add the commands to the parser's."""
    _add_prepare(commands)
