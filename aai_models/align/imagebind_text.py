"""The text trunk in an ImageBind file: OpenCLIP ViT-H/14's frozen text encoder, under the names of a CLIP text model.

The audio trunk was trained towards pictures that this trunk's texts describe, so that sounds and texts share a space.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .foreign_files import tensor_names
from .imagebind import MOST_SCALE
from .imagebind_files import DO, read_matching

MARK = b"modality_trunks.text.blocks.0.attn.in_proj_weight"
SCALE = re.compile(r"modality_postprocessors\.text\.1\.log_logit_scale$")
TEXT = re.compile(r"modality_(preprocessors|trunks|heads)\.text\.")
MASK = "modality_preprocessors.text.mask"  # causal; text models make their own
POSITIONS = "modality_preprocessors.text.pos_embed"
BLOCK = re.compile(r"modality_trunks\.text\.blocks\.(\d+)\.(.+)")
# As published -> of a CLIP text model, as `transformers` and ComfyUI have it.
NAMES = {
    "modality_preprocessors.text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    POSITIONS: "text_model.embeddings.position_embedding.weight",
    "modality_heads.text.proj.0.weight": "text_model.final_layer_norm.weight",
    "modality_heads.text.proj.0.bias": "text_model.final_layer_norm.bias",
    "modality_heads.text.proj.1.weight": "text_projection.weight",
}
IN_BLOCKS = {"norm_1": "layer_norm1", "norm_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
HEAD_DIM, END = 64, 49407
OPENCLIP_SCALE = 100.0  # what OpenCLIP ViT-H multiplies cosines by


@dataclass(frozen=True)
class TextTrunk:
    """A CLIP text model: its configuration and its tensors."""

    config: dict[str, int | str]
    tensors: dict[str, Tensor]


def has_text(path: str | Path) -> bool:
    """Whether an ImageBind file holds the text trunk, in the published layout."""
    return MARK in tensor_names(Path(path))


def text_scale(path: str | Path) -> float:
    """What the file multiplies its texts by, at most 100."""
    found = [float(tensor.float()) for tensor in read_matching(Path(path), SCALE).values()]
    return min(math.exp(found[0]), MOST_SCALE) if found else OPENCLIP_SCALE


def read_text(path: str | Path) -> TextTrunk:
    """The text trunk of a file for which `has_text`. Raises `CheckpointError` where its sizes cannot be read."""
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for name, tensor in read_matching(path, TEXT).items():
        if name != MASK:
            tensors |= _renamed(name, tensor)
    layers = {name.split(".")[3] for name in tensors if name.startswith("text_model.encoder.layers.")}
    try:
        words, width = tensors[NAMES["modality_preprocessors.text.token_embedding.weight"]].shape
        hidden = tensors["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0]
        places = tensors[NAMES[POSITIONS]].shape[0]
    except (KeyError, ValueError, IndexError):
        raise CheckpointError(
            f"{path.name} has no whole text trunk", "Words are compared with its sounds by that trunk", DO
        ) from None
    config = {
        **{"vocab_size": words, "hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": len(layers)},
        **{"num_attention_heads": max(1, width // HEAD_DIM), "max_position_embeddings": places},
        **{"hidden_act": "gelu", "eos_token_id": END, "model_type": "clip_text_model"},
    }
    return TextTrunk(config, tensors)


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A published tensor under its name, or names, in a CLIP text model; an unknown one stays as it is."""
    if name in NAMES:
        return {NAMES[name]: tensor.flatten(0, -2) if name == POSITIONS else tensor}
    block = BLOCK.fullmatch(name)
    if not block:
        return {name: tensor}
    layer, inner = f"text_model.encoder.layers.{block[1]}.", block[2]
    if inner.startswith("attn.in_proj_"):
        kind = inner.removeprefix("attn.in_proj_")
        parts = tensor.chunk(3)
        return {f"{layer}self_attn.{p}_proj.{kind}": t.clone() for p, t in zip("qkv", parts, strict=True)}
    for old, new in IN_BLOCKS.items():
        inner = inner.replace(f"{old}.", f"{new}.")
    return {layer + inner: tensor}
