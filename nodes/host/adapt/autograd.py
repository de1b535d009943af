"""Gradients through models that the host loaded for inference, leaving everything as it was.

ComfyUI runs nodes in `torch.inference_mode`, so that loaded weights are inference tensors, which autograd cannot save
for backward. Here they are aliased by ordinary tensors on the same storage: no copy, and the originals, flags included,
are put back on every way out.
"""

from __future__ import annotations

import contextlib

import comfy.ldm.modules.attention as attention
import comfy.model_management as mm
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def gradients():
    """Leave inference mode and tell the host, where it wants to know, that training is going on."""
    before = getattr(mm, "in_training", None)
    if before is not None:
        mm.in_training = True
    try:
        # In-place additions of the text encoders would otherwise invalidate what backward needs.
        with torch.inference_mode(False), torch.enable_grad(), torch.autograd.graph.allow_mutation_on_saved_tensors():
            yield
    finally:
        if before is not None:
            mm.in_training = before


@contextlib.contextmanager
def frozen_aliases(*modules: nn.Module):
    """Swap the inference tensors of `modules` for ordinary frozen aliases; call inside `gradients()`."""
    swapped: list[tuple[dict, str, Tensor]] = []
    try:
        for root in modules:
            for module in root.modules():
                for table in (module._parameters, module._buffers):
                    for name, tensor in list(table.items()):
                        if tensor is None or not _needs_alias(tensor):
                            continue
                        swapped.append((table, name, tensor))
                        table[name] = _alias(tensor)
        yield
    finally:
        for table, name, tensor in swapped:
            table[name] = tensor


def _needs_alias(tensor: Tensor) -> bool:
    # Quantised tensor subclasses give fresh ordinary tensors when they are used.
    return type(tensor) in (Tensor, nn.Parameter) and (tensor.is_inference() or tensor.requires_grad)


def _alias(tensor: Tensor) -> Tensor:
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias


def pytorch_attention(_function, *args, **kwargs):
    """An `optimized_attention_override`: the attention that has a backward, whichever one the host prefers."""
    return attention.attention_pytorch(*args, **kwargs)
