"""A stand-in with random weights for CLIP-ViT-H-14, which the stock Load CLIP Vision takes for one."""

from __future__ import annotations

from pathlib import Path

import torch
from aai_pack.devtools.stand_in import WeightMaker

WIDTH, LAYERS, PATCHES, FEATURES = 1280, 32, 16 * 16, 1024


def write_vit_h(path: Path, seed: int = 4) -> None:
    """A few megabytes on disk: every tensor is a window on a small pool of numbers. 1.2 GB in the host, as the real one."""
    make, stem = WeightMaker(seed), "vision_model.embeddings."
    tensors = {
        f"{stem}class_embedding": make.normal(1, WIDTH, std=2.0**-5)[0],
        f"{stem}position_embedding.weight": make.normal(PATCHES + 1, WIDTH, std=2.0**-5),
        f"{stem}patch_embedding.weight": make.normal(WIDTH, 3, 14, 14),
        "visual_projection.weight": make.normal(FEATURES, WIDTH),
    }
    for norm in ("pre_layrnorm", "post_layernorm"):
        tensors |= make.norm(f"vision_model.{norm}", WIDTH)
    for number in range(LAYERS):
        layer = f"vision_model.encoder.layers.{number}."
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= make.linear(f"{layer}self_attn.{projection}", WIDTH, WIDTH)
        tensors |= make.norm(f"{layer}layer_norm1", WIDTH) | make.norm(f"{layer}layer_norm2", WIDTH)
        tensors |= make.linear(f"{layer}mlp.fc1", 4 * WIDTH, WIDTH) | make.linear(f"{layer}mlp.fc2", WIDTH, 4 * WIDTH)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)
