"""A stand-in with random weights for an SD2.1-unCLIP-h checkpoint, which the stock unCLIPCheckpointLoader takes for one."""

from __future__ import annotations

from pathlib import Path

import torch
from aai_pack.devtools.stand_in import WIDTH, WeightMaker, taesd_tensors, unet_tensors
from torch import Tensor

TEXT, LAYERS = 1024, 24  # of OpenCLIP ViT-H's text encoder, which the host makes whole
EMBEDDING = 2 * TEXT  # an image embedding and its noise level


def write_checkpoint(path: Path, seed: int = 2) -> None:
    """A few megabytes on disk: every tensor is a window on a small pool of numbers."""
    make = WeightMaker(seed)
    parts = {
        "model.diffusion_model.": _unet(make),
        "cond_stage_model.model.": _text(make),
        "first_stage_model.": taesd_tensors(make),
    }
    tensors = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": tensors}, path)


def _unet(make: WeightMaker) -> dict[str, Tensor]:
    tensors = unet_tensors(make)
    for name, tensor in tensors.items():
        if name.endswith(("proj_in.weight", "proj_out.weight")):
            tensors[name] = tensor[..., 0, 0]
        elif name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            tensors[name] = make.normal(WIDTH, TEXT)
    tensors |= make.linear("label_emb.0.0", 4 * WIDTH, EMBEDDING)
    return tensors | make.linear("label_emb.0.2", 4 * WIDTH, 4 * WIDTH)


def _text(make: WeightMaker) -> dict[str, Tensor]:
    tensors = {
        "token_embedding.weight": make.normal(49408, TEXT, std=2.0**-6),
        "positional_embedding": make.normal(77, TEXT, std=2.0**-8),
        "text_projection": make.normal(TEXT, TEXT),
    }
    for number in range(LAYERS):
        block = f"transformer.resblocks.{number}"
        tensors |= make.norm(f"{block}.ln_1", TEXT) | make.norm(f"{block}.ln_2", TEXT)
        tensors |= {f"{block}.attn.in_proj_weight": make.normal(3 * TEXT, TEXT)}
        tensors |= {f"{block}.attn.in_proj_bias": make.vector(3 * TEXT)}
        tensors |= make.linear(f"{block}.attn.out_proj", TEXT, TEXT) | make.linear(f"{block}.mlp.c_fc", 4 * TEXT, TEXT)
        tensors |= make.linear(f"{block}.mlp.c_proj", TEXT, 4 * TEXT)
    return tensors | make.norm("ln_final", TEXT)
