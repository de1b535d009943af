"""Room for gradients: how much memory a step takes, and how a step takes less.

The step is run once on tensors without content (PyTorch's fake tensors), which costs a second and no memory, and what
autograd keeps for the way back is counted.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field

import comfy.model_management as mm
import torch
import torch.utils.checkpoint
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ....aai_models.adapt.objective import NoisySample
from ....aai_models.errors import TrainingError
from .loss import DiffusionLoss

log = logging.getLogger(__name__)
GIGABYTE = 2**30
FALLBACK = 10  # saved activations over the host's own estimate for sampling, measured on SD1.5 at 512 px
PLENTY = 4  # times the rough estimate, which makes measuring needless
RESERVE = 0.9  # share of the free memory that a step may take


@dataclass(frozen=True)
class Need:
    """Bytes that a step takes beyond the weights."""

    plain: int
    checkpointed: int  # when each block is computed again on the way back


@dataclass
class _Count:
    """What autograd keeps, by the block that made it; the same storage counts once."""

    known: dict[int, object]  # storages of the weights, and those counted; held, so that no address comes twice
    shapes: set[tuple[int, ...]]  # of the weights: convolutions get images of their own
    blocks: dict[int, int] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)  # of the blocks, by storage
    held: list = field(default_factory=list)
    outside: int = 0
    current: int | None = None

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        weight = tensor.grad_fn is None and tuple(tensor.shape) in self.shapes
        if storage._cdata not in self.known and not weight:
            self.known[storage._cdata] = storage
            if self.current is None:
                self.outside += storage.nbytes()
            else:
                self.blocks[self.current] = self.blocks.get(self.current, 0) + storage.nbytes()
        return tensor

    def enter(self, module: nn.Module, args) -> None:
        self.current = id(module)
        storages = [a.untyped_storage() for a in args if isinstance(a, Tensor)]
        self.held += storages
        self.inputs |= {storage._cdata: storage.nbytes() for storage in storages}

    def leave(self, module: nn.Module, args, output) -> None:
        self.current = None


def blocks(network: nn.Module) -> list[nn.Module]:
    """The residual and attention blocks of a UNet, none inside another."""
    return [module for module in network.modules() if isinstance(module, (ResBlock, SpatialTransformer))]


def needs(diffusion, loss: DiffusionLoss, vectors: dict[str, Tensor], sample: NoisySample) -> Need:
    """What one evaluation of the loss takes; call where gradients are on and the weights are ordinary tensors."""
    spare = int(diffusion.memory_required(list(sample.latents.shape)))
    handles, network = [], diffusion.model.diffusion_model
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            # Kept while it lasts: the mode forgets a weight's image, and makes another, once nobody holds it.
            images = [mode.from_tensor(t) for m in loss.modules for t in (*m.parameters(), *m.buffers())]
            shapes = {tuple(image.shape) for image in images if image.ndim > 1}
            count = _Count({image.untyped_storage()._cdata: image for image in images}, shapes)
            for module in blocks(network):
                handles.append(module.register_forward_pre_hook(count.enter))
                handles.append(module.register_forward_hook(count.leave, always_call=True))
            leaves = {key: torch.empty(v.shape, requires_grad=True) for key, v in vectors.items()}
            with torch.autograd.graph.saved_tensors_hooks(count.pack, lambda tensor: tensor):
                loss(leaves, sample)
    except mm.InterruptProcessingException:
        raise
    except Exception as error:  # a patch of another pack may look into the tensors
        log.info("The memory of a step is estimated roughly (%s: %s).", type(error).__name__, error)
        return Need(FALLBACK * spare, FALLBACK * spare // 3)
    finally:
        for handle in handles:
            handle.remove()
    inside = sum(count.blocks.values())
    again = sum(count.inputs.values()) + max(count.blocks.values(), default=0)
    return Need(count.outside + inside + spare, count.outside + min(again, inside) + spare)


def plenty(diffusion, sample: NoisySample, device) -> bool:
    """Whether so much memory is free that a step need not be measured."""
    rough = FALLBACK * diffusion.memory_required(list(sample.latents.shape))
    return PLENTY * rough < mm.get_free_memory(device)


def choose(need: Need, device, what: str) -> bool:
    """Whether blocks must be computed again on the way back; raises `TrainingError` where even that is too much.

    `what` names the step, for the person.
    """
    free = mm.get_free_memory(device)
    log.info("A step of %s takes about %.1f GB of %.1f GB.", what, need.plain / GIGABYTE, free / GIGABYTE)
    if need.plain <= RESERVE * free:
        return False
    if need.checkpointed <= RESERVE * free:
        log.info("Blocks are computed again on the way back, which takes %.1f GB.", need.checkpointed / GIGABYTE)
        return True
    raise too_little_memory(f"A step of {what} takes about {need.checkpointed / GIGABYTE:.1f} GB", free)


def too_little_memory(found: str, free: float) -> TrainingError:
    """The sentence in place of an out-of-memory error."""
    return TrainingError(
        f"{found}, and {free / GIGABYTE:.1f} GB are free beside the models",
        "It must fit as a whole",
        "Lower `batch_size` (and raise `accumulation` in its place) or `resolution`, or close other programs",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, could not give the memory that was asked for."""
    if isinstance(error, (mm.OOM_EXCEPTION, MemoryError)) and not isinstance(error, mm.InterruptProcessingException):
        return type(error) is not Exception
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)


@contextlib.contextmanager
def recomputed(network: nn.Module):
    """Compute each block again on the way back in place of keeping what it made; the same gradients for less memory."""
    changed: list[tuple[nn.Module, object]] = []
    try:
        for module in blocks(network):
            changed.append((module, module.__dict__.get("forward")))
            module.forward = _recomputed(module.forward)
        yield
    finally:
        for module, before in changed:
            if before is None:
                del module.forward
            else:
                module.forward = before


def _recomputed(forward):
    def run(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # The host writes the number of the block that runs into these; the way back needs them as they were.
        kept = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
        places = [dict(value) if isinstance(value, dict) else value for value in args]
        return torch.utils.checkpoint.checkpoint(
            forward, *places, use_reentrant=False, preserve_rng_state=False, **kept
        )

    return run
