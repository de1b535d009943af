"""Which model it is: a hash of weights and patches that does not depend on whether the host has loaded them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

SAMPLED = 64  # values of each tensor


def weights_digest(*modules: nn.Module) -> str:
    """A hash of the names, shapes and up to `SAMPLED` evenly spaced values of each weight, as they lie in memory now."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + _sampled(tensor))
    return digest.hexdigest()[:16]


def patched_digest(patcher) -> str:
    """A hash of a patched model: the weights without the patches, the patches (LoRAs, merges, hooks), and the objects
    and functions put in place of the model's own. The same whether the patches are in the weights now or not."""
    digest = hashlib.sha256()
    for name, tensor in patcher.model.state_dict().items():
        digest.update(name.encode() + _sampled(_unpatched(patcher, name, tensor)))
    for name, patches in sorted(patcher.patches.items()):
        digest.update(_content((name, patches)))
    for hook, patches in patcher.hook_patches.items():
        if patcher.forced_hooks is not None and hook in {
            getattr(h, "hook_ref", None) for h in patcher.forced_hooks.hooks
        }:
            digest.update(_content(sorted(patches.items())))
    if patcher.forced_hooks is not None:
        digest.update(_content([(type(h).__name__, getattr(h, "strength", 1.0)) for h in patcher.forced_hooks.hooks]))
    for name, replaced in sorted(patcher.object_patches.items()):
        digest.update(_content((name, replaced)))
    digest.update(_content(patcher.model_options.get("transformer_options", {})))
    return digest.hexdigest()[:16]


def _unpatched(patcher, name: str, tensor: Tensor) -> Tensor:
    for backup in (getattr(patcher, "backup", {}), getattr(patcher, "hook_backup", {})):
        if name in backup:
            kept = backup[name]
            return getattr(kept, "weight", kept[0] if isinstance(kept, tuple) else kept)
    return tensor


def _sampled(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    stride = max(1, flat.numel() // SAMPLED)
    values = flat[::stride][:SAMPLED].float().cpu().contiguous().numpy().tobytes()
    return f" {tuple(tensor.shape)} {tensor.dtype}".encode() + values


def _content(value) -> bytes:
    """What a nested value consists of; a function or object by its name and its tensors, never by its address."""
    if isinstance(value, Tensor):
        return _sampled(value) if value.layout == torch.strided and not value.is_meta else str(value.shape).encode()
    if isinstance(value, dict):
        return b"{" + b",".join(_content(key) + b":" + _content(item) for key, item in value.items()) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(map(_content, value)) + b"]"
    if value is None or isinstance(value, (str, int, float, bool, bytes)):
        return repr(value).encode()
    if isinstance(value, nn.Module):
        parts = [kind.__qualname__ for kind in type(value).__mro__]
        return repr(parts).encode() + _content(dict(value.state_dict()))
    weights = getattr(value, "weights", None)  # a host's adapter of a LoRA
    return getattr(value, "__qualname__", type(value).__qualname__).encode() + (_content(weights) if weights else b"")
