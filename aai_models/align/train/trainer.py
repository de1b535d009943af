"""One training of CAVT-MAE: epochs, schedules, held-out evaluations, checkpoints, and resuming after any end."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ...errors import TrainingError
from .. import alignment
from ..cavt_mae import CAVTMAE
from ..config import AlignConfig
from ..data.items import Item, Source
from ..metrics import accuracy, retrieval
from ..momentum import explain
from . import run_file
from .curves import draw_curves, read_log
from .processes import World
from .step import NotFiniteError, Stepper


@dataclass(frozen=True)
class RunOptions:
    """How a training runs; nothing here changes what comes out of it but by rounding."""

    chunk: int = 0  # clips that keep their graph at a time; 0: all of a process's
    checkpoint_minutes: float = 10.0
    max_steps: int = 0  # stop there, as if interrupted; 0: at the end
    log_every: int = 1  # steps
    tensorboard: bool = True


@dataclass
class Result:
    """What a training came to."""

    steps: int
    finished: bool  # False: stopped before its end; the same call goes on
    best: float  # held-out score in percent; -1 without held-out clips
    best_step: int
    encoder: Path  # the best encoder, or the last one where nothing is held out


class Trainer:
    """Make one, look at `student`, then `run`."""

    def __init__(
        self,
        model: CAVTMAE,
        source: Source,
        config: AlignConfig,
        folder: Path,
        *,
        world: World | None = None,
        options: RunOptions | None = None,
        say: Callable[[str], None] = print,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.world, self.options = world or World(), options or RunOptions()
        self.config, self.source, self.folder = config, source, folder
        self.stepper = Stepper(model, source, config, self.world, self.options.chunk)
        self.student, self.teacher = self.stepper.student, self.stepper.teacher
        self.identity = {"data": source.name, "processes": str(self.world.size), "begun_with": fingerprint(model)}
        self.step = self.epoch = self.consumed = self.step_of_epoch = 0
        self.best, self.best_step = -1.0, 0
        self.asked = False  # this process was asked to stop; `stopping`: all agreed to
        self.stopping = False
        self._say = say if self.world.rank == 0 else lambda _: None
        self._progress = progress if self.world.rank == 0 else None
        self._begun_at, self._first_step = time.monotonic(), 0
        self._saved_at = self._begun_at

    def _alpha(self) -> float:
        if not self.config.alpha_ramp:
            return self.config.alpha
        return self.config.alpha * min(1.0, self._place() / self.config.alpha_ramp)

    def _place(self) -> float:
        """How far the training is, in epochs."""
        return self.epoch + self.step_of_epoch / max(1, self._steps_of_epoch())

    def _steps_of_epoch(self) -> int:
        return self.source.steps(self.epoch, self.config.batch, self.world.size)

    def learning_rate(self) -> float:
        """Of the step to come."""
        config, place = self.config, self._place()
        if place < config.warmup:
            return config.lr * (place + 1 / max(1, self._steps_of_epoch())) / (config.warmup + 1e-9)
        if config.schedule == "halve":
            return config.lr * 0.5 ** max(0, int(place) - 1)
        if config.schedule == "cosine":
            return config.lr * (1 + math.cos(math.pi * min(1.0, place / config.epochs))) / 2
        return config.lr

    def _train_step(self, items: list[Item]) -> dict[str, float]:
        alpha, rate = self._alpha(), self.learning_rate()
        try:
            return {**self.stepper.step(items, self.epoch, alpha, rate), "alpha": alpha, "lr": rate}
        except NotFiniteError:
            self.save_last()
            self._say(f"stopped at step {self.step + 1}; the state before it is saved")
            raise

    def run(self) -> Result:
        """Train to the end, or until `asked` is set; goes on from the folder's `last.run` if there is one."""
        self._begin()
        log = _Log(self.folder, self.options.tensorboard, self.step) if self.world.rank == 0 else None
        try:
            while self.epoch < self.config.epochs and not self.stopping:
                self._run_epoch(log)
            self.save_last()
        finally:
            if log is not None:
                log.close()
        self._report()
        finished = self.epoch >= self.config.epochs
        if self.world.rank == 0:
            self._write_results(finished)
        self.world.wait()
        return Result(self.step, finished, self.best, self.best_step, self.folder / run_file.BEST)

    def _run_epoch(self, log: _Log | None) -> None:
        """The rest of an epoch and the look at its end, or as far as until it is stopped."""
        for items in self._batches():
            terms = self._train_step(items)
            self.step, self.step_of_epoch = self.step + 1, self.step_of_epoch + 1
            self.consumed = items[-1].consumed
            self._tell(terms, log)
            if self.world.any(time.monotonic() - self._saved_at > 60 * self.options.checkpoint_minutes):
                self.save_last()
            self.stopping = self.world.any(self.asked or self.step == self.options.max_steps)
            if self.stopping:
                break
        if not self.stopping:
            self.epoch, self.consumed, self.step_of_epoch = self.epoch + 1, 0, 0
            self._look(log)
            self.save_last()

    def _write_results(self, finished: bool) -> None:
        if finished:
            self._save_encoder(run_file.FINAL, "the last step")
            about = f"{self.config.preset}, momentum_target {self.config.momentum_target}"
            draw_curves(*read_log(self.folder / run_file.LOG), about).save(self.folder / "curves.png")
        if self.best < 0:
            self._save_encoder(run_file.BEST, "nothing was held out: this is the last step")

    def _report(self) -> None:
        """How many clips and shards all processes together could not use, and why."""
        lines = [line for part in self.world.gather_objects(self.source.report()) for line in part]
        if lines:
            self._say(f"trouble with {len(lines)} clips or shards; what could not be read was skipped:")
        for line in lines:
            self._say(f"  {line}")

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / run_file.LAST
        if path.exists():
            record = run_file.restore(
                path, self.student, self.teacher, self.stepper.optimizer, self.config, self.identity
            )
            self.step, self.epoch, self.step_of_epoch = record["step"], record["epoch"], record["step_of_epoch"]
            self.consumed = record["consumed"][self.world.rank]
            self.best, self.best_step = record["best"], record["best_step"]
            self.stepper.averaged = record.get("averaged", False)
            if self.stepper.scaler.is_enabled():
                self.stepper.scaler.load_state_dict(record["scaler"])
            if self.world.rank == 0:
                run_file.trim_log(self.folder / run_file.LOG, self.step)
            self._say(f"going on from step {self.step}, epoch {self.epoch + 1}")
        elif self._steps_of_epoch() < 1:
            raise TrainingError(
                f"The training clips do not fill one batch of {self.config.batch} over {self.world.size} processes",
                "An epoch has at least one whole batch, and each process a shard of its own",
                "Lower `batch`, prepare smaller shards, or add clips",
            )
        self._first_step = self.step
        has_pictures = self.source.pictures != "none"
        self._say(explain(self.config.momentum_target, self.config.alpha, has_pictures))

    def _batches(self) -> Iterator[list[Item]]:
        """This process's batches of the rest of the epoch; ends for all when the first process has no whole one left."""
        items = self.source.train(self.epoch, self.world.rank, self.world.size, self.consumed)
        while self.step_of_epoch < self._steps_of_epoch():
            batch = list(islice(items, self.stepper.local))
            # What Ctrl-C also ends, such as a download, must not pass for the end of the epoch.
            self.stopping = self.world.any(self.asked)
            if self.stopping or self.world.any(len(batch) < self.stepper.local):
                return
            yield batch

    def _tell(self, terms: dict[str, float], log: _Log | None) -> None:
        if self._progress:
            left = (self.config.epochs - self.epoch - 1) * self._steps_of_epoch()
            total = self.step - self.step_of_epoch + self._steps_of_epoch() + left
            self._progress(self.step, self.options.max_steps or total)
        if log is not None and self.step % self.options.log_every == 0:
            speed = (self.step - self._first_step) * self.config.batch / (time.monotonic() - self._begun_at)
            log.write({"step": self.step, "epoch": self.epoch + 1, **terms}, {"clips_per_second": speed})

    @torch.no_grad()
    def features(self, items: Iterator[Item]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clips without augmentation -> audio (n, D), picture (n', D) of those that have one, texts (n, D), seen (n,)."""
        rows: list[list[Tensor]] = [[], [], [], []]
        while batch := list(islice(items, max(1, self.stepper.chunk))):
            made = self.stepper.assemble(batch, None)
            with self.stepper.autocast():
                rows[0].append(self.student.encode_audio(made.fbank).cpu())
                if made.states is not None:
                    rows[1].append(self.student.picture(made.states[made.seen]).cpu())
            rows[2].append(made.texts.cpu())
            rows[3].append(made.seen.cpu())
        empty = torch.zeros(0, self.student.model.config.dim)
        audio, picture, texts = (torch.cat(part) if part else empty for part in rows[:3])
        return audio, picture, texts, torch.cat(rows[3]) if rows[3] else empty[:, 0] > 0

    def score(self) -> dict[str, float]:
        """Held-out figures in percent, the same in every process; empty if nothing is held out."""
        parts = self.world.gather_objects(self.features(self.source.heldout(self.world.rank, self.world.size)))
        a, v, texts, seen = (torch.cat(column) for column in zip(*parts, strict=True))
        if not len(a):
            return {}
        classes, labels = torch.unique(texts, dim=0, return_inverse=True)
        figures = {"a2t": 100 * float(accuracy(a, classes, labels).mean())}
        figures["score"] = figures["a2t"]
        if len(v) > 1:
            to_v, to_a = retrieval(a[seen], v)
            figures |= {"a2v_r1": to_v.r1, "v2a_r1": to_a.r1, "a2v_r10": to_v.r10, "v2a_r10": to_a.r10}
            figures["score"] = (to_v.r1 + to_a.r1) / 2
        return figures

    def _look(self, log: _Log | None) -> None:
        figures = self.score()
        if not figures:
            return
        if log is not None:
            log.write({"step": self.step, "epoch": self.epoch, **{f"heldout_{k}": v for k, v in figures.items()}}, {})
        self._say(f"epoch {self.epoch}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
        if figures["score"] > self.best:
            self.best, self.best_step = figures["score"], self.step
            if self.world.rank == 0:
                self._save_encoder(run_file.BEST, json.dumps(figures))

    def _save_encoder(self, name: str, heldout: str) -> None:
        about = {"step": str(self.step), "heldout": heldout, "data": self.source.name}
        about |= {alignment.HEADER: self.source.aligned_with, alignment.TEXT_ENCODER: self.source.text_encoder}
        run_file.save_encoder(self.folder / name, self.student, self.config, about)

    def save_last(self) -> None:
        """Write where the training is. All processes call it together, but for one that stops on an error."""
        consumed = self.world.gather_objects(self.consumed)
        self._saved_at = time.monotonic()
        if self.world.rank:
            return
        record = {"step": self.step, "epoch": self.epoch, "step_of_epoch": self.step_of_epoch, "consumed": consumed}
        record |= {"best": self.best, "best_step": self.best_step, "identity": self.identity}
        record["averaged"] = self.stepper.averaged
        record["scaler"] = self.stepper.scaler.state_dict()
        path = self.folder / run_file.LAST
        run_file.save_last(path, self.student, self.teacher, self.stepper.optimizer, self.config, record)


def train(
    model: CAVTMAE,
    source: Source,
    config: AlignConfig,
    folder: Path,
    *,
    world: World | None = None,
    options: RunOptions | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Tune a CAVT-MAE towards texts and pictures (Eq. 1) into `folder`; the same call goes on where it was stopped.

    `source` is a `MemorySource`, a `ShardSource`, or anything else that keeps to `items.Source`. Ctrl-C, or SIGTERM as
    clusters send it, finishes the step, saves and returns. `progress(step, steps)` is called after each step. Raises
    `TrainingError`.
    """
    trainer = Trainer(model, source, config, folder, world=world, options=options, say=say, progress=progress)
    if threading.current_thread() is not threading.main_thread():
        return trainer.run()

    def stop(*_):
        trainer.asked = True

    before = {which: signal.signal(which, stop) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        return trainer.run()
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


class _Log:
    """One JSON line for each step, and TensorBoard's files where it is installed."""

    def __init__(self, folder: Path, tensorboard: bool, step: int):
        self._file = open(folder / run_file.LOG, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
            except ImportError:
                pass  # the lines hold the same figures

    def write(self, figures: dict, others: dict) -> None:
        """Raises `TrainingError` if the disk does not take it."""
        try:
            self._file.write(json.dumps(figures) + "\n")
            self._file.flush()
            if self._board is not None:
                for name, value in {**figures, **others}.items():
                    if name != "step":
                        self._board.add_scalar(name.replace("heldout_", "heldout/"), value, figures["step"])
        except OSError as error:
            raise TrainingError(
                f"Could not write the log ({error.strerror or error})",
                "The training's folder must be writable and have room",
                "Free some space; the same command continues from the last checkpoint",
            ) from None

    def close(self) -> None:
        for part in (self._file, self._board):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()


def fingerprint(model: CAVTMAE) -> str:
    """Tells the weights that a training began with."""
    total = sum(float(p.detach().cpu().double().abs().sum()) for p in model.parameters())
    return f"{len(model.state_dict())} tensors, sum {total:.10e}"
