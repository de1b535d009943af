"""Keeps what a training has reached: its checkpoint while it runs, its best token when it does not reach its end."""

from __future__ import annotations

import contextlib
import logging
import re

import comfy.model_management as mm

from ...aai_models.adapt import checkpoint
from ...aai_models.adapt.trainer import AdapterTrainer
from ...aai_models.errors import TokenError, TrainingError
from . import folders
from .messages import tell

log = logging.getLogger(__name__)
RUN_NAME = re.compile(r"[0-9a-f]{24}")


class Keeper:
    """The files of one run; continues it if there are some already."""

    def __init__(self, trainer: AdapterTrainer, inputs: dict[str, str], resume_from: str = ""):
        self.trainer, self._inputs = trainer, inputs
        self.name = checkpoint.identity(inputs)
        self.path = folders.trainings_folder() / f"{self.name}.safetensors"
        self._told = False
        if resume_from:
            checkpoint.restore(trainer, inputs, _require_run(resume_from))
        elif self.path.is_file():
            self._continue()

    def _continue(self) -> None:
        try:
            checkpoint.restore(self.trainer, self._inputs, self.path)
        except TrainingError as error:
            # The name says that it is this run; a file that was damaged must not stand in the way.
            log.warning("%s Training begins anew.", error)
            return
        state = "ended there already" if self.trainer.finished else "goes on"
        tell(f"Training {self.name} was at step {self.trainer.step} and {state}.")

    def save(self) -> None:
        """Write the checkpoint; a disk that does not take it is told once, and training goes on."""
        try:
            checkpoint.save(self.trainer, self._inputs, self.path)
        except TrainingError as error:
            if not self._told:
                log.warning(error)
                tell(f"{error} Training goes on without checkpoints.")
            self._told = True

    @contextlib.contextmanager
    def keeps(self):
        """Save a run that does not reach its end, and its best token, and say where they are."""
        try:
            yield
        except BaseException as error:
            self.save()
            where = self._save_best()
            stopped = "cancelled" if isinstance(error, mm.InterruptProcessingException) else "stopped by an error"
            text = f"Training was {stopped} after {self.trainer.step} of {self.trainer.config.steps} steps. {where}"
            log.warning(text)
            tell(text)
            if isinstance(error, TrainingError):
                raise TrainingError(error.found, error.expected, f"{error.do}. {where}") from None
            raise

    def _save_best(self) -> str:
        trainer = self.trainer
        path = folders.partial_tokens_folder() / f"{self.name}-step{trainer.best_step}.safetensors"
        try:
            trainer.best.save(path)
        except TokenError as error:
            return f"Its best token could not be kept: {error}"
        return f"Its best token (of step {trainer.best_step}) is output/{path.parent.name}/{path.name}"


def _require_run(name: str):
    plain = name.strip().removesuffix(".safetensors")
    path = folders.trainings_folder() / f"{plain}.safetensors"
    if not RUN_NAME.fullmatch(plain) or not path.is_file():
        raise TrainingError(
            f"There is no training {name!r} in output/aai_training",
            "`resume_from` is the name of a file there, 24 digits and letters",
            "Correct the name, or clear it",
        )
    return path
