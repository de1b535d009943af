"""Attention patches that join those of other packs: installed when sampling starts, around whatever is there."""

from __future__ import annotations

import math
from collections.abc import Callable

import comfy.ldm.modules.attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from torch import Tensor

from ....aai_models.errors import EditError

# (q, k, v, extra_options) after the projections -> attention's output before its last projection.
AttentionFunction = Callable[[Tensor, Tensor, Tensor, dict], Tensor]
# Where a layer keeps the attention that its checkpoint prefers, in hosts that know such, and how it is passed on.
OF_LAYER, PREFERRED = "comfy_attention", "preferred_attention"


def plain_attention(q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
    """What the host's own layer computes here: its attention, overrides of other packs and a checkpoint's preference
    included."""
    preference = {PREFERRED: extra[PREFERRED]} if PREFERRED in extra else {}
    return comfy.ldm.modules.attention.optimized_attention(
        q,
        k,
        v,
        heads=extra["n_heads"],
        attn_precision=extra.get("attn_precision"),
        transformer_options=extra,
        **preference,
    )


def require_unet(model) -> UNetModel:
    """The UNet of a ModelPatcher; raises `EditError` for models without cross-attention to words."""
    network = getattr(model.model, "diffusion_model", None)
    if not isinstance(network, UNetModel):
        raise EditError(
            f"The model is a {type(network).__name__}",
            "This node works with the UNets of SD1.x, SD2.x and SDXL; other families are not supported yet",
            "Load a checkpoint of one of these families",
        )
    return network


def transformer_blocks(unet: UNetModel) -> list[tuple[str, int]]:
    """("input", 4) and so on: the blocks of a UNet that attend to words."""
    kind = comfy.ldm.modules.attention.SpatialTransformer
    blocks = [
        (name, number)
        for name, modules in (("input", unet.input_blocks), ("output", unet.output_blocks))
        for number, module in enumerate(modules)
        if any(isinstance(part, kind) for part in module)
    ]
    if unet.middle_block is not None and any(isinstance(part, kind) for part in unet.middle_block):
        blocks.append(("middle", 0))
    return blocks


def attention_layers(unet: UNetModel) -> list[tuple[int, int, int]]:
    """Of each place that attends to words: how many times smaller than the latent it is, its channels, its transformers."""
    factor, found = 1, []
    for module in (*unet.input_blocks, unet.middle_block or (), *unet.output_blocks):
        for part in module:
            if isinstance(part, Downsample):
                factor *= 2
            elif isinstance(part, Upsample):
                factor //= 2
            elif isinstance(part, comfy.ldm.modules.attention.SpatialTransformer):
                blocks = part.transformer_blocks
                found.append((factor, blocks[0].attn1.to_q.out_features, len(blocks)))
    return found


def nearest_factor(unet: UNetModel, wanted: int) -> int:
    """The factor by which a layer that attends to words is smaller than the latent, nearest to `wanted`."""
    found = {factor for factor, _, _ in attention_layers(unet)}
    return min(sorted(found), key=lambda there: abs(math.log2(there / wanted)), default=wanted)


def wrap_attention(options: dict, unet: UNetModel, kind: str, wrap: Callable[[AttentionFunction], AttentionFunction]):
    """Put `wrap(what is there)` around every `kind` ("attn1", "attn2") of the transformer options of one run.

    Blocks are registered without a transformer's index: patches that are added later, while sampling, still take effect.
    """
    replaced = dict(options.get("patches_replace", {}))
    table = dict(replaced.get(kind, {}))
    preferences = attention_preferences(unet, kind)
    for key in {*transformer_blocks(unet), *table}:
        table[key] = _telling(wrap(table.get(key, plain_attention)), preferences)
    replaced[kind] = table
    options["patches_replace"] = replaced


def attention_preferences(unet: UNetModel, kind: str) -> dict[tuple[str, int, int], object]:
    """Block, its number and the transformer's index -> the attention that this layer prefers; empty in hosts without."""
    found = {}
    for name, number in transformer_blocks(unet):
        module = unet.middle_block if name == "middle" else getattr(unet, f"{name}_blocks")[number]
        for part in module:
            for index, block in enumerate(getattr(part, "transformer_blocks", ())):
                preferred = getattr(getattr(block, kind, None), OF_LAYER, None)
                if preferred is not None:
                    found[(name, number, index)] = preferred
    return found


def _telling(attend: AttentionFunction, preferences: dict[tuple[str, int, int], object]) -> AttentionFunction:
    """`attend` whose options name the attention that the layer prefers; itself where no layer prefers any."""
    if not preferences:
        return attend

    def told(q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        preferred = preferences.get((*extra.get("block", ()), extra.get("block_index", 0)))
        if preferred is None:
            return attend(q, k, v, extra)
        extra[PREFERRED] = preferred
        try:
            return attend(q, k, v, extra)
        finally:
            extra.pop(PREFERRED, None)  # the block's other layers share these options

    return told


def add_patch(options: dict, name: str, patch: Callable) -> None:
    """Append to a list of patches ("attn2_patch") in the transformer options of one run."""
    patches = dict(options.get("patches", {}))
    patches[name] = [*patches.get(name, []), patch]
    options["patches"] = patches


def with_wrapper(model, kind: str, key: str, wrapper: Callable, outermost: bool = False):
    """A clone of a ModelPatcher with one wrapper of `key`, also if it had one already; `outermost` puts it before others."""
    clone = model.clone()
    clone.remove_wrappers_with_key(kind, key)
    clone.add_wrapper_with_key(kind, key, wrapper)
    if outermost:
        named = clone.wrappers[kind]
        clone.wrappers[kind] = {key: named[key], **named}
    return clone
