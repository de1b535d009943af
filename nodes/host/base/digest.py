"""Which model it is: a hash of weights and patches that does not depend on whether the host has loaded them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor, nn

from .content import Content, sampled

# What a patcher carries besides weights and patches: sampler functions (RescaleCFG), wrappers, LoRAs in bypass mode, ...
CARRIED = ("wrappers", "callbacks", "injections", "attachments", "additional_models", "weight_wrapper_patches")


@dataclass(frozen=True)
class Identity:
    """The identity of a model."""

    digest: str
    unknown: tuple[str, ...]  # classes that cannot be described with certainty: a change in them would go unnoticed


def weights_digest(*modules: nn.Module) -> str:
    """A hash of the names, shapes and up to `SAMPLED` evenly spaced values of each weight, in the type that the host
    computes with, so that one it has loaded counts as before."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + sampled(_as_computed(module, name, tensor)))
    return digest.hexdigest()[:16]


def patched_digest(patcher) -> str:
    """A hash of a patched model: the weights without the patches, the patches (LoRAs, merges, hooks), and the objects
    and functions put in place of the model's own or around them. The same whether the host has loaded it now or not."""
    return identify(patcher).digest[:16]


def identify(patcher, *more) -> Identity:
    """What a patched model is known by, together with any further values of which it consists."""
    content = Content(_of_the_host)
    digest = hashlib.sha256()
    for part in _parts(patcher, content):
        digest.update(part)
    for value in more:
        digest.update(content.of(value))
    return Identity(digest.hexdigest(), tuple(dict.fromkeys(content.unknown)))


def identify_model(model) -> Identity:
    """A MODEL: `identify`, and how it samples."""
    inner = model.model
    types = [getattr(inner, "manual_cast_dtype", None)] if "manual_cast_dtype" not in model.object_patches else []
    types += [inner.get_dtype()] if hasattr(inner, "get_dtype") else []
    sampling = Content(_of_the_host).of(model.get_model_object("model_sampling"))
    return identify(model, type(inner), sampling, types)


def identify_clip(clip) -> Identity:
    """A CLIP: `identify`, the layer it stops at, its tokenizers and its options."""
    options = {name: getattr(clip, name, None) for name in ("layer_idx", "tokenizer_options", "use_clip_schedule")}
    tokenizers = {
        name: [type(tokenizer), {key: v for key, v in vars(tokenizer).items() if isinstance(v, (bool, int, float))}]
        for name, tokenizer in vars(clip.tokenizer).items()
        if hasattr(tokenizer, "__dict__")
    }
    return identify(clip.patcher, options, tokenizers, getattr(clip, "apply_hooks_to_conds", None))


def identify_vae(vae) -> Identity:
    """A VAE: `identify`, its type and what it does before and after."""
    parts = [type(vae), *(getattr(vae, name, None) for name in ("vae_dtype", "process_input", "process_output"))]
    if getattr(vae, "patcher", None) is not None:
        return identify(vae.patcher, *parts)
    content = Content(_of_the_host)
    digest = hashlib.sha256(content.of(vars(vae)) + content.of(parts))
    return Identity(digest.hexdigest(), tuple(dict.fromkeys(content.unknown)))


def _parts(patcher, content: Content) -> Iterator[bytes]:
    if not content.knows(patcher.model):
        content.name(patcher.model, _layers(patcher))
        yield from (name.encode() + sampled(tensor) for name, tensor in _weights(patcher))
    for name, patches in sorted(patcher.patches.items()):
        yield content.of((name, patches))
    yield from _hooks(patcher, content)
    yield from (_object_patch(name, replaced, content) for name, replaced in sorted(patcher.object_patches.items()))
    options = dict(patcher.model_options)
    yield content.of(options.pop("transformer_options", {}))
    carried = {"model_options": options} | {name: getattr(patcher, name, None) for name in CARRIED}
    yield from (content.of((name, value)) for name, value in carried.items() if _holds_something(value))


def _object_patch(name: str, replaced, content: Content) -> bytes:
    # Every CLIP computes in float32. Bridges and saved words know their CLIP by what version 0.1.0 wrote for that.
    if replaced is torch.float32:
        return b"[" + content.of(name) + b",dtype]"
    return content.of((name, replaced))


def _hooks(patcher, content: Content) -> Iterator[bytes]:
    """Hooks that a CLIP always has on; those of a conditioning belong to it."""
    forced = getattr(patcher, "forced_hooks", None)
    if forced is None:
        return
    on = {getattr(hook, "hook_ref", None) for hook in forced.hooks}
    yield from (content.of(sorted(p.items())) for hook, p in patcher.hook_patches.items() if hook in on)
    yield content.of([(type(hook).__name__, getattr(hook, "strength", 1.0)) for hook in forced.hooks])
    yield content.of([hook.hook_keyframe for hook in forced.hooks])


def _holds_something(value) -> bool:
    return any(map(_holds_something, value.values())) if isinstance(value, dict) else bool(value)


def _weights(patcher) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each weight as the checkpoint gave it: without patches, without what stands in for a layer now."""
    state, replaced = patcher.model.state_dict(), getattr(patcher, "object_patches_backup", {})
    prefixes = {f"{name}.": old for name, old in replaced.items()}
    told = set()
    for key, tensor in state.items():
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        if prefix is None:
            yield key, _unpatched(patcher, key, tensor)
        elif prefix not in told:
            told.add(prefix)
            yield from _own_state(prefix, prefixes[prefix])
    for prefix, old in prefixes.items():
        if prefix not in told:
            yield from _own_state(prefix, old)


def _layers(patcher) -> dict[int, str]:
    """Id -> name of each layer of a model, of those in whose place others stand now as well."""
    replaced = getattr(patcher, "object_patches_backup", {})
    layers = {id(layer): name for name, layer in patcher.model.named_modules() if not _is_below(name, replaced)}
    for name, old in replaced.items():
        if isinstance(old, nn.Module):
            layers |= {id(layer): f"{name}.{inner}".strip(".") for inner, layer in old.named_modules()}
    return {key: f"layer {name}" for key, name in layers.items()}


def _is_below(name: str, replaced) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in replaced)


def _own_state(prefix: str, old) -> Iterator[tuple[str, Tensor]]:
    if isinstance(old, nn.Module):
        yield from ((prefix + key, tensor) for key, tensor in old.state_dict().items())


def _unpatched(patcher, name: str, tensor: Tensor) -> Tensor:
    for backup in ("backup", "hook_backup", "backup_buffers"):
        kept = getattr(patcher, backup, {}).get(name)
        if kept is not None:
            return kept if isinstance(kept, Tensor) else getattr(kept, "weight", kept[0])
    return tensor


def _as_computed(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A weight that may lie in the file's type now and in the type of the computation once it is loaded."""
    layer, _, own = name.rpartition(".")
    kept = getattr(module.get_submodule(layer) if layer else module, f"{own}_comfy_model_dtype", None)
    return tensor.to(kept) if kept is not None and kept != tensor.dtype and not tensor.is_meta else tensor


def _of_the_host(value, content: Content) -> bytes | None:
    """Models that a function or an object holds: each as `identify` sees it."""
    if isinstance(value, (comfy.sd.CLIP, comfy.sd.VAE)):
        return type(value).__name__.encode() + content.of([value.patcher, getattr(value, "layer_idx", None)])
    if isinstance(value, comfy.model_patcher.ModelPatcher):
        return b"".join(_parts(value, content))
    return None
