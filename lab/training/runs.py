"""What all trainings share: a budget of minutes, a rate that falls with it, averages, checkpoints and a log."""

from __future__ import annotations

import contextlib
import copy
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...aai_models.align.train.processes import World
from ...aai_models.devices import has_bf16
from ...aai_models.errors import TrainingError
from .workers import Workers

SAVE_EVERY = 120.0  # seconds between checkpoints
LOG_EVERY = 15.0
STOPPED = 2.0  # the share of its time that a run has behind it which is asked to stop


@dataclass(frozen=True)
class Machine:
    """Where a training runs: nothing here changes what comes out of it but by rounding."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0  # processes that draw; 0: none but the training's own

    def autocast(self, bf16: bool) -> torch.autocast:
        """bfloat16 where it is wanted and the device has it; elsewhere it would be many times slower than float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16 and has_bf16(self.device))

    def generator(self, seed: int) -> torch.Generator:
        """Random numbers on the device; those of a processor are the same on every processor."""
        return torch.Generator(device=self.device).manual_seed(seed)

    @property
    def clock(self) -> Callable[[], float]:
        """That of the processor where it alone works, and all in this process; else that of the wall."""
        return time.process_time if self.device.type == "cpu" and not self.workers else time.monotonic


class Budget:
    """Time spent in training, over all resumed sessions; the learning rate is a function of it alone.

    `clock` is that of the wall, or `time.process_time` for a run that only takes what others leave.
    """

    def __init__(self, minutes: float, spent: float = 0.0, clock=time.monotonic):
        self.total, self._clock = minutes * 60, clock
        self.begin(spent)

    def begin(self, spent: float) -> None:
        """Count from now on, with so many seconds behind."""
        self._before, self._start = spent, self._clock()

    @property
    def spent(self) -> float:
        return self._before + self._clock() - self._start

    @property
    def share(self) -> float:
        return min(1.0, self.spent / self.total)

    def rate(
        self, peak: float, step: int, warm_up: int = 200, flat: float = 0.6, last: float = 0.04, share=None
    ) -> float:
        """Linear warm-up in steps, constant to `flat` of the time, then linear to `last` of the peak."""
        share = self.share if share is None else share
        fall = min(1.0, max(0.0, (share - flat) / (1 - flat)))
        return peak * min(1.0, (step + 1) / warm_up) * (1 - fall * (1 - last))


class Team:
    """The processes that train one model together (`torchrun --nproc-per-node N -m lab train ...`), or one alone."""

    def __init__(self, machine: Machine | None = None):
        self._world = World.start(str((machine or Machine()).device))
        self.rank, self.size = self._world.rank, self._world.size

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_) -> None:
        self._world.stop()

    @property
    def leads(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def agree(self, parameters: list[nn.Parameter], share: float) -> float:
        """Average the gradients over all processes; returns the leader's `share`, so that all stop at the same step."""
        if self.size == 1:
            return share
        for parameter in parameters:
            if parameter.grad is None:  # nothing of this process's share of the batch needed it
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in parameters]
        told = torch.tensor([share * self.size * self.leads], device=self._world.device)
        flat = torch.cat([*(g.flatten() for g in grads), told])
        dist.all_reduce(flat)
        flat /= self.size
        for own, agreed in zip(grads, flat[:-1].split([g.numel() for g in grads]), strict=True):
            own.copy_(agreed.view_as(own))
        return float(flat[-1])


class Average:
    """Exponential moving average of a module's parameters and buffers."""

    def __init__(self, module: nn.Module, decay: float = 0.999):
        self.module, self.decay = copy.deepcopy(module).requires_grad_(False), decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = list(self.module.parameters()), list(module.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - decay)


class Run:
    """A folder with `state.pt`, `log.jsonl` and what a training writes at its end."""

    def __init__(self, folder: Path, name: str, config):
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = asdict(config)
        self._saved = self._logged = time.monotonic()

    def load(self) -> dict | None:
        """The state of a former session of the same settings, on the CPU; raises `TrainingError` for other ones."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return None
        state = torch.load(path, weights_only=True, map_location="cpu")
        different = {
            k: (v, self.config.get(k))
            for k, v in state["config"].items()
            if v != self.config.get(k) and k != "minutes"  # more or less time is no other model
        }
        if different:
            told = ", ".join(f"{name} was {before} and is {now}" for name, (before, now) in different.items())
            raise TrainingError(
                f"{path} was made with other settings: {told}",
                "A training goes on only with what it began with",
                "Restore them, choose another --out, or delete that file to begin anew",
            )
        return state

    def save(self, now: bool = False, **state) -> None:
        """Write the state now, or if the last time is long enough ago; atomically."""
        if not now and time.monotonic() - self._saved < SAVE_EVERY:
            return
        temporary = self.folder / "state.tmp"
        torch.save({"config": self.config, **state}, temporary)
        temporary.replace(self.folder / "state.pt")
        self._saved = time.monotonic()

    def log(self, now: bool = False, **values) -> None:
        if not now and time.monotonic() - self._logged < LOG_EVERY:
            return
        values = {k: float(v) if isinstance(v, Tensor) else v for k, v in values.items()}  # waits for a GPU only now
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
        self._logged = time.monotonic()

    def finish(self, tensors: dict[str, Tensor]) -> Path:
        """Write the weights for any computer -> their file."""
        path = self.folder / "weights.pt"
        torch.save({name: tensor.detach().cpu() for name, tensor in tensors.items()}, path)
        return path


class Session:
    """A model, its average, its optimiser, its steps and its time, as a run goes on with them."""

    def __init__(self, run: Run, model: nn.Module, optimiser: torch.optim.Optimizer, budget: Budget, decay=0.999):
        self.run, self.model, self.optimiser, self.budget = run, model, optimiser, budget
        self.average, self.step = Average(model, decay), 0
        state = run.load()
        if state:
            model.load_state_dict(state["model"])
            self.average.module.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]
            budget.begin(state["spent"])

    def checkpoint(self, now: bool = False) -> None:
        """Write the state as `Run.save` does."""
        tensors = {"model": self.model.state_dict(), "average": self.average.module.state_dict()}
        self.run.save(now, **tensors, optimiser=self.optimiser.state_dict(), step=self.step, spent=self.budget.spent)

    def log(self, now: bool = False, **figures) -> None:
        self.run.log(now, step=self.step, minutes=self.budget.spent / 60, **figures)


class Stop:
    """Whether Ctrl-C was pressed."""

    asked = False


@contextlib.contextmanager
def finishing_steps() -> Iterator[Stop]:
    """Ctrl-C only asks to stop, so that a step is finished and saved; pressed again, it ends at once.

    Raises `KeyboardInterrupt` behind the block where it was asked.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(*_) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
    if stop.asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def at_work(machine: Machine) -> Iterator[tuple[Workers, Stop]]:
    """The machine's workers, and whether Ctrl-C was pressed: also while they are begun, so that the state is saved."""
    with finishing_steps() as stop, Workers(machine.workers) as workers:
        yield workers, stop
