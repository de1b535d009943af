"""The processes that train together: one, or as many as `torchrun` started, on one machine or on many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from ...devices import find_device

_BACKENDS = {"cuda": "nccl", "xpu": "xccl"}  # how devices talk to each other; others by way of the processor


@dataclass
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def start(cls, device: str = "auto") -> World:
        """Join the group that `torchrun` describes in the environment; alone without one."""
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        place = find_device(device)
        if place.index is not None:
            torch.get_device_module(place).set_device(place)
        if size > 1:
            # An optimizer's first step imports this; imported once a group is there, functions of it hold the group as
            # a default. It then outlives `stop`, and its threads abort the interpreter that ends around them.
            from torch import _dynamo  # noqa: F401

            dist.init_process_group(_BACKENDS.get(place.type, "gloo"), rank=rank, world_size=size)
        return cls(rank, size, place)

    def stop(self) -> None:
        """Leave the group; no thread of it stays."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def gather(self, x: Tensor) -> Tensor:
        """(n, ...) of each process -> (size * n, ...), in the order of ranks; no gradient flows through."""
        if self.size == 1:
            return x.detach()
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, x.detach().contiguous())
        return torch.cat(parts)

    def gather_objects(self, item) -> list:
        """Any picklable thing of each process, in the order of ranks."""
        if self.size == 1:
            return [item]
        items = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up each parameter's gradient over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for parameter, total in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = total.view_as(parameter).clone()

    def any(self, flag: bool) -> bool:
        """Whether it is so in some process."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()
