"""One step of Align: Eq. 1 on the joint batch of all processes, in parts that fit a memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ...devices import has_bf16
from ...errors import TrainingError
from ..cavt_mae import CAVTMAE
from ..config import AlignConfig
from ..data.items import Item, Source, augmented, draw
from ..losses import align_terms
from ..momentum import TIED, Student, Teacher
from .gradients import joint_backward
from .processes import World


class NotFiniteError(TrainingError):
    """A loss or a gradient that is no number; the weights are still those of the step before."""


@dataclass
class Batch:
    """This process's clips of a step."""

    keys: list[str]
    fbank: Tensor  # (n, 1024, 128), augmented
    texts: Tensor  # (n, D)
    text_ids: Tensor  # (n,)
    states: Tensor | None  # (n, ...), zeros where a clip has no picture
    seen: Tensor  # (n,) bool: it has one


@dataclass
class Targets:
    """What the audio features of the joint batch of all processes are drawn to, without gradient."""

    texts: Tensor  # (N, D)
    text_ids: Tensor  # (N,)
    seen: Tensor  # (N,) bool: the clip has a picture
    a_momentum: Tensor | None  # the teacher's audio features (N, D), where it has an audio tower
    v: Tensor | None = None  # (N, D); None: no pictures, or a head that is trained makes them
    v_momentum: Tensor | None = None  # the teacher's picture features (N, D)


class Stepper:
    """The student, its teacher and its optimiser; `step` trains on one batch."""

    def __init__(self, model: CAVTMAE, source: Source, config: AlignConfig, world: World, chunk: int):
        if config.batch % world.size:
            raise TrainingError(f"batch {config.batch} is not a multiple of {world.size} processes", "It must be one")
        self.config, self.source, self.world = config, source, world
        self.local = config.batch // world.size
        self.chunk = min(chunk or self.local, self.local)
        self.student = Student(model, config.momentum_target).to(world.device)
        self.teacher = Teacher(self.student, config.momentum)
        self.parameters = list(self.student.trained().values())
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
        self.precision = _precision(config.precision, world.device)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.precision == torch.float16)
        self.averaged = False  # updated already, for a step that the student has not made yet

    def autocast(self):
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.world.device.type, self.precision)

    def assemble(self, items: list[Item], epoch: int | None) -> Batch:
        device, config, dim = self.world.device, self.config, self.student.model.config.dim
        if items[0].text.shape != (dim,):
            raise TrainingError(
                f"A text feature has the shape {tuple(items[0].text.shape)}",
                f"The towers give features of {dim} values, and so must the texts",
                "Bring them to that width, for example with texts.Reduced or texts.orthonormal",
            )
        sounds = torch.empty(len(items), *items[0].fbank.shape)  # filled clip by clip, so that it is there once
        for n, item in enumerate(items):
            sounds[n] = item.fbank if epoch is None else augmented(item.fbank, config, draw(config, epoch, item.row))
        states = self._states(items)
        return Batch(
            [item.key for item in items],
            sounds.to(device),
            torch.stack([item.text for item in items]).float().to(device),
            torch.tensor([item.text_id for item in items], device=device),
            None if states is None else states.to(device),
            torch.tensor([item.picture is not None for item in items], device=device),
        )

    def _states(self, items: list[Item]) -> Tensor | None:
        """What the frozen tower made of the clips' pictures, in half precision whether it was kept or is new."""
        found: dict[int, Tensor] = {}
        new = [n for n, item in enumerate(items) if item.picture is not None and _is_pixels(item.picture)]
        for first in range(0, len(new), self.chunk):
            part = new[first : first + self.chunk]
            pixels = torch.stack([picture for n in part if (picture := items[n].picture) is not None]).to(
                self.world.device
            )
            with self.autocast():
                states = self.student.picture_states(pixels).half().cpu()
            for n, state in zip(part, states, strict=True):
                found[n] = state
                self.source.keep(items[n].picture_row, state)
        for n, item in enumerate(items):
            if item.picture is not None and n not in found:
                found[n] = item.picture.half()
        if not found:
            return None
        empty = torch.zeros_like(next(iter(found.values())))
        return torch.stack([found.get(n, empty) for n in range(len(items))]).float()

    def _in_parts(self, work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.no_grad(), self.autocast():
            return torch.cat([work(part) for part in x.split(self.chunk)])

    def step(self, items: list[Item], epoch: int, alpha: float, rate: float) -> dict[str, float]:
        """Train on this process's clips of a batch, at a learning rate -> the loss and its terms.

        Raises `NotFiniteError` before the weights would be ruined.
        """
        batch, config = self.assemble(items, epoch), self.config
        if not self.averaged:
            self.teacher.update()
            self.averaged = True
        pictured = self.world.any(batch.states is not None)
        if pictured and batch.states is None:
            batch.states = self._no_states(items)
        targets = self._targets(batch)
        terms: dict[str, float] = {}

        def encode(rows: slice) -> tuple[Tensor, ...]:
            with self.autocast():
                a = self.student.encode_audio(batch.fbank[rows])
                if batch.states is None or self.student.head is None:
                    return (a,)
                return a, self.student.picture(batch.states[rows])

        def loss(a: Tensor, v: Tensor | None = targets.v) -> Tensor:
            labels = targets.text_ids if config.multi_positive else None
            parts = align_terms(
                a, targets.texts, v, targets.v_momentum, config.tau, labels, targets.a_momentum, targets.seen
            )
            terms.update({name: float(value.detach()) for name, value in parts._asdict().items() if value is not None})
            return parts.total(alpha)

        self.optimizer.zero_grad(set_to_none=True)
        scale = float(self.scaler.get_scale()) if self.scaler.is_enabled() else 1.0
        value = joint_backward(encode, len(items), self.chunk, loss, self.parameters, self.world, scale)
        self._require_finite(float(value), batch)
        self._apply(batch, rate)
        self.averaged = False
        return {"loss": float(value), **terms, "alpha": alpha, "lr": rate}

    def _targets(self, batch: Batch) -> Targets:
        """Everything of a step that needs no gradient, gathered from all processes."""
        gather = self.world.gather
        tower = self.teacher.tower
        targets = Targets(
            gather(batch.texts),
            gather(batch.text_ids),
            gather(batch.seen.float()) > 0,
            None if tower is None else gather(self._in_parts(tower.encode_audio, batch.fbank)),
        )
        if batch.states is not None:
            targets.v_momentum = gather(self._in_parts(self.teacher.picture, batch.states))
            if self.student.head is None:
                targets.v = gather(self._in_parts(self.student.picture, batch.states))
        return targets

    def _no_states(self, items: list[Item]) -> Tensor:
        config = self.student.model.config
        shape = (config.image_tokens, config.dim) if self.student.reading in TIED else (config.dim,)
        return torch.zeros(len(items), *shape, device=self.world.device)

    def _apply(self, batch: Batch, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.scaler.is_enabled():
            if self.scaler._scale is None:
                self.scaler.scale(torch.zeros((), device=self.world.device))
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm or math.inf)
        if not self.scaler.is_enabled():
            self._require_finite(float(norm), batch)  # fp16 meets infinite gradients now and then, and skips them
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _require_finite(self, value: float, batch: Batch) -> None:
        """Stop before a step that would ruin the weights, with the clip that is the reason."""
        if math.isfinite(value):
            return
        guilty = []
        for name, x in (("sound", batch.fbank), ("text", batch.texts), ("picture", batch.states)):
            if x is not None:
                bad = ~torch.isfinite(x.flatten(1)).all(dim=1)
                guilty += [f"the {name} of {batch.keys[n]}" for n in bad.nonzero().flatten().tolist()]
        guilty = [who for part in self.world.gather_objects(guilty) for who in part]
        what = ", ".join(guilty[:5]) or f"none of its inputs; its clips are {', '.join(batch.keys[:5])}..."
        raise NotFiniteError(
            f"The loss or its gradient is NaN or infinite; not finite: {what}",
            "Every step needs a finite loss; the state before it is saved",
            "Remove that clip, or lower lr if it is none of the inputs",
        )


def _is_pixels(picture: Tensor) -> bool:
    return picture.ndim == 3 and picture.shape[0] == 3


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type != "cpu" and has_bf16(device) else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise TrainingError("precision is fp16 without a GPU", "A CPU trains in fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
