"""The memory of a training step: three ways to compute it, each slower and smaller than the one before.

    plain      everything that backward needs is kept
    recompute  each block keeps its input alone and is computed again on the way back (a third more time)
    release    as recompute, and the text encoders leave the device while the diffusion model works (their way there and
               back twice a step: SDXL's take 1.6 GB)

A rough estimate chooses the first; a step that runs out of memory is done once more in the next.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

import comfy.clip_model
import comfy.model_management as mm
import torch.utils.checkpoint
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import Tensor, nn

from ....aai_models.errors import TrainingError

log = logging.getLogger(__name__)
GIGABYTE = 2**30
PLAIN = 10  # what a step keeps over the host's own estimate for sampling, measured on SD1.5 at 512 px
RECOMPUTED = 3  # the same where blocks are computed again
WAYS = ("plain", "recompute", "release")
BLOCKS = (ResBlock, BasicTransformerBlock, comfy.clip_model.CLIPLayer)  # none inside another


class Models(Protocol):
    """What a way changes of the models of a training."""

    is_thrifty: bool  # whether layers of the text encoders are computed again
    releases_text: bool  # whether they leave the device while the diffusion model works

    @property
    def device(self): ...

    @property
    def network(self) -> nn.Module: ...

    def text_closed(self) -> None: ...

    def text_ready(self) -> None: ...


class StepMemory:
    """How steps are computed now. Use as a context manager; `less` goes on to the next way."""

    def __init__(self, models: Models, way: str, what: str):
        self._models, self._what = models, what
        self._first = WAYS.index(way)
        self._way, self._is_guarded = 0, False
        self._stack = contextlib.ExitStack()

    @property
    def way(self) -> str:
        return WAYS[self._way]

    def __enter__(self) -> StepMemory:
        while self._way < self._first:
            self.less()
        return self

    def __exit__(self, *reason) -> None:
        self._stack.close()

    def less(self) -> None:
        """Compute from now on in the next way; raises `TrainingError` after the last."""
        if self.way == WAYS[-1]:
            raise too_little_memory(self._what, mm.get_free_memory(self._models.device))
        self._way += 1
        log.info("%s: memory mode %s.", self._what, self.way)
        if self.way == "recompute":
            self._models.text_closed()
            self._models.is_thrifty = True
            self._models.text_ready()
            self._stack.enter_context(recomputed(self._models.network))
        self._models.releases_text = self.way == "release"
        mm.soft_empty_cache()

    def fitted(self, run: Callable, before_again: Callable = lambda: None):
        """`run()`; again, in the next way, each time that memory does not suffice for it."""
        while True:
            try:
                return run()
            except Exception as error:
                overwrites = "modified by an inplace operation" in str(error) and not self._is_guarded
                if not overwrites and not is_out_of_memory(error):
                    raise
            # Only here has the error let go of the step's tensors.
            before_again()
            if overwrites:
                self._guard()
            else:
                self.less()

    def _guard(self) -> None:
        """Let patches of other packs overwrite what backward needs, at the price of a copy and of time."""
        self._is_guarded = True
        log.info("A patch of the model changes tensors in place; training works on copies of them.")
        self._stack.enter_context(torch.autograd.graph.allow_mutation_on_saved_tensors())


def first_way(diffusion, shape: list[int], low_memory: bool) -> str:
    """The way to begin with, by what the host estimates and what is free; latents of a step have `shape`."""
    rough, free = diffusion.memory_required(shape), mm.get_free_memory(diffusion.load_device)
    if rough * PLAIN <= free and not low_memory:
        return "plain"
    return "recompute" if rough * RECOMPUTED <= free or low_memory else "release"


def too_little_memory(what: str, free: float) -> TrainingError:
    """The sentence in place of an out-of-memory error."""
    return TrainingError(
        f"Out of memory: {what} needs more than the {free / GIGABYTE:.1f} GB that are free beside the model",
        "It must fit even when activations are recomputed",
        "Lower `resolution`, or lower `batch_size` and raise `accumulation`, or close other programs. With the same settings "
        "the training continues from its last step",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, could not give the memory that was asked for."""
    if isinstance(error, (mm.OOM_EXCEPTION, MemoryError)) and not isinstance(error, mm.InterruptProcessingException):
        return type(error) is not Exception
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)


def blocks(*networks: nn.Module) -> list[nn.Module]:
    """The residual and transformer blocks of UNets, and the layers of text encoders."""
    return [module for network in networks for module in network.modules() if isinstance(module, BLOCKS)]


@contextlib.contextmanager
def recomputed(*networks: nn.Module):
    """Compute each block again on the way back in place of keeping what it made; the same gradients for less memory."""
    changed: list[tuple[nn.Module, object]] = []
    try:
        for module in blocks(*networks):
            changed.append((module, module.__dict__.get("forward")))
            module.forward = _recomputed(module.forward)
        yield
    finally:
        for module, before in changed:
            if before is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = before


def _recomputed(forward):
    def run(*args, **kwargs):
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in _tensors(args, kwargs)):
            return forward(*args, **kwargs)
        # The host writes the number of the block that runs into these; the way back needs them as they were.
        kept = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
        places = [dict(value) if isinstance(value, dict) else value for value in args]
        return torch.utils.checkpoint.checkpoint(
            forward, *places, use_reentrant=False, preserve_rng_state=False, **kept
        )

    return run


def _tensors(args: tuple, kwargs: dict) -> list[Tensor]:
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
