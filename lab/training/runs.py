"""What all trainings share: a budget of minutes, a rate that falls with it, averages, checkpoints and a log."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ...aai_models.align.train.processes import World

SAVE_EVERY = 120.0  # seconds between checkpoints
LOG_EVERY = 15.0


class Budget:
    """Time spent in training, over all resumed sessions; the learning rate is a function of it alone.

    `clock` is that of the wall, or `time.process_time` for a run that only takes what others leave.
    """

    def __init__(self, minutes: float, spent: float = 0.0, clock=time.monotonic):
        self.total, self._before, self._clock, self._start = minutes * 60, spent, clock, clock()

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

    def __init__(self):
        self._world = World.start("cpu")
        self.rank, self.size = self._world.rank, self._world.size

    def stop(self) -> None:
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
        flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([share * self.size * self.leads])])
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
        """The state of a former session of the same settings; raises ValueError for other ones."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return None
        state = torch.load(path, weights_only=True)
        different = {
            k: (v, self.config.get(k))
            for k, v in state["config"].items()
            if v != self.config.get(k) and k != "minutes"  # more or less time is no other model
        }
        if different:
            raise ValueError(f"{path} was made with other settings {different}; choose another --out or delete it")
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
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
        self._logged = time.monotonic()
