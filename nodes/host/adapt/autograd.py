"""Gradients through models that the host loaded for inference, leaving everything as it was.

ComfyUI loads and runs models in `torch.inference_mode`, so that their weights are tensors which autograd cannot save for
backward; a weight that was moved later does not even say so. Here every weight is aliased by an ordinary tensor on the same
storage: no copy, and the originals, flags included, are put back on every way out.
"""

from __future__ import annotations

import contextlib
import inspect
from types import MethodType

import comfy.clip_model
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
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if before is not None:
            mm.in_training = before


@contextlib.contextmanager
def frozen_aliases(*modules: nn.Module, dtype: torch.dtype | None = None):
    """Swap the tensors of `modules` for ordinary frozen aliases; call inside `gradients()`.

    `dtype`: the layers' floating-point weights of another type are copied to it, once in place of at every use; tables of
    words, of which a prompt takes a few rows, are not.
    """
    swapped: list[tuple[dict, str, Tensor]] = []
    try:
        for module in {m: None for root in modules for m in root.modules()}:
            copied = None if isinstance(module, nn.Embedding) else dtype
            for table in (module._parameters, module._buffers):
                for name, tensor in list(table.items()):
                    # Quantised tensor subclasses give fresh ordinary tensors when they are used.
                    if tensor is None or type(tensor) not in (Tensor, nn.Parameter):
                        continue
                    swapped.append((table, name, tensor))
                    table[name] = _alias(tensor, copied)
        yield
    finally:
        for table, name, tensor in swapped:
            table[name] = tensor


def _alias(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    # Never asked whether it needs one: a weight that was moved outside of inference mode looks ordinary and is not.
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if dtype is not None and alias.is_floating_point():
        alias = alias.to(dtype)
    return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias


@contextlib.contextmanager
def out_of_place(encoder: nn.Module):
    """Let the layers of a text encoder add without overwriting what backward needs; puts them back at the end.

    Encoders whose layers are of another kind run, as a whole, under PyTorch's own and slower guard.
    """
    layers = [module for module in encoder.modules() if isinstance(module, comfy.clip_model.CLIPLayer)]
    if not layers or not all(_is_known(layer) for layer in layers):
        with torch.autograd.graph.allow_mutation_on_saved_tensors():
            yield
        return
    try:
        for layer in layers:
            layer.forward = MethodType(_forward, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _is_known(layer: nn.Module) -> bool:
    given = list(inspect.signature(type(layer).forward).parameters)
    return "forward" not in vars(layer) and given == ["self", "x", "mask", "optimized_attention"]


def _forward(layer, x: Tensor, mask: Tensor | None = None, optimized_attention=None) -> Tensor:
    """The host's `CLIPLayer.forward`, (B, T, width) -> the same, with sums in memory of their own."""
    x = x + layer.self_attn(layer.layer_norm1(x), mask, optimized_attention)
    return x + layer.mlp(layer.layer_norm2(x))


def pytorch_attention(_function, *args, **kwargs):
    """An `optimized_attention_override`: the attention that has a backward, whichever one the host or a checkpoint prefers."""
    kwargs.pop("preferred_attention", None)  # of a quantised checkpoint, say, and without a backward
    return attention.attention_pytorch(*args, **kwargs)
