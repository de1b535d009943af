"""The files of a training: its checkpoint while it runs, its result, its best token where it has no end."""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import asdict

import comfy.model_management as mm
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....aai_models.adapt import checkpoint
from ....aai_models.adapt.report import Report
from ....aai_models.adapt.trainer import AdapterTrainer
from ....aai_models.errors import TokenError, TrainingError
from ....aai_models.files import write_atomically
from ..base import folders
from ..base.messages import tell
from . import unfinished

log = logging.getLogger(__name__)
RUN_NAME = re.compile(r"[0-9a-f]{24}")


class RunFiles:
    """The files of one run, under the name that its inputs gave it when it began."""

    def __init__(self, inputs: dict[str, str], sounds: Tensor, resume_from: str = ""):
        """`sounds` (K, D): what the encoder gave; `resume_from`: the name of a run that must be the one."""
        self.inputs = inputs
        folder = folders.trainings_folder()
        path = _require_run(resume_from) if resume_from else checkpoint.find(inputs, sounds, folder)
        self.path = path or folder / f"{checkpoint.identity(inputs)}.safetensors"
        self.name = self.path.stem
        self.picture = self.path.with_suffix(".png")
        self._told = False
        self._found: tuple[dict[str, Tensor], dict] | None = None
        if resume_from:
            self._found = checkpoint.read(inputs, self.path, sounds)
        elif path:
            self._read(sounds)

    def _read(self, sounds: Tensor) -> None:
        try:
            self._found = checkpoint.read(self.inputs, self.path, sounds)
        except TrainingError as error:
            # The name says that it is this run; a file that was damaged must not stand in the way.
            log.warning("%s Training starts again from step 0.", error)

    def result(self) -> tuple[dict[str, Tensor], dict, Report] | None:
        """Best adapters by text encoder, record and report of a run that has ended; None for any other."""
        if self._found is None or not self._found[1].get("report"):
            return None
        tensors, record = self._found
        adapters = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
        try:
            report = Report(**{**record["report"], "notes": tuple(record["report"]["notes"])})
            report.text()
        except (TypeError, KeyError, ValueError, AttributeError):  # of another version, or damaged
            return None
        tell(f"Training {self.name} was already complete; this is its word.{self._rounded()}")
        return adapters, record, report

    def go_on(self, trainer: AdapterTrainer) -> None:
        """Put a run that was stopped where it was."""
        if self._found is None:
            return
        try:
            trainer.restore(*self._found)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            log.warning("%s cannot be continued (%s). Training starts again from step 0.", self.path.name, error)
            return
        tell(f"Training {self.name} continues from step {trainer.step}.{self._rounded()}")

    def _rounded(self) -> str:
        """What a person is told of a run whose sounds are rounded otherwise than when it began."""
        if self.name == checkpoint.identity(self.inputs):
            return ""
        return " It began where sounds are rounded otherwise, as on another device or with another version of PyTorch."

    def save(self, trainer: AdapterTrainer, report: Report | None = None) -> None:
        """Write the checkpoint; a disk that does not take it is told once, and training goes on."""
        try:
            checkpoint.save(trainer, self.inputs, self.path, None if report is None else asdict(report))
        except TrainingError as error:
            if not self._told:
                log.warning(error)
                tell(f"{error} Training continues without checkpoints.")
            self._told = True

    def save_sheet(self, sheet: Tensor) -> None:
        """Keep the final sheet, (1, H, W, 3) in 0..1, beside the checkpoint."""
        picture = Image.fromarray((sheet[0] * 255).round().byte().cpu().numpy())
        try:
            write_atomically(
                self.picture, lambda temporary: picture.save(temporary, "PNG"), TrainingError, "a few megabytes"
            )
        except TrainingError as error:
            log.warning(error)

    def sheet(self) -> Tensor | None:
        """The sheet that `save_sheet` kept, None where there is none."""
        try:
            with Image.open(self.picture) as picture:
                array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
        except (OSError, ValueError):
            return None
        return torch.from_numpy(array)[None]

    @contextlib.contextmanager
    def keeps(self, trainer: AdapterTrainer):
        """Save a run that does not reach its end, and its best token, and say where they are."""
        try:
            yield
        except BaseException as error:
            self.save(trainer)
            where = self._save_best(trainer)
            stopped = "cancelled" if isinstance(error, mm.InterruptProcessingException) else "stopped by an error"
            text = f"{where.rstrip('.')}. Training was {stopped} after {trainer.step} of {trainer.config.steps} steps."
            log.warning(text)
            tell(f"{text} Run again to go on from there.")
            if isinstance(error, TrainingError):
                raise TrainingError(error.found, error.expected, f"{error.do}. {where}") from None
            raise

    def _save_best(self, trainer: AdapterTrainer) -> str:
        path = unfinished.file_of(self.name, trainer.best_step)
        try:
            trainer.best.save(path)
        except TokenError as error:
            return f"Its best token could not be saved: {error}"
        file = f"output/{path.parent.name}/{path.name}"  # first: a narrow node shows the beginning of a text
        return f"{file} is its best token, of step {trainer.best_step}; Load Audio Token offers it"


def _require_run(name: str):
    plain = name.strip().removesuffix(".safetensors")
    path = folders.trainings_folder() / f"{plain}.safetensors"
    if not RUN_NAME.fullmatch(plain) or not path.is_file():
        raise TrainingError(
            f"There is no training {name!r} in output/aai_training",
            "`resume_from` must be the name of a file there, 24 digits and letters",
            "Correct the name, or clear it",
        )
    return path
