"""Twins of ImageBind's published files: the same names and layouts with weights made by a formula."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from aai_pack.aai_models.align import imagebind_files
from safetensors.torch import save_file
from torch import Tensor

SIZES = {"width": 64, "depth": 2, "dim": 1024}
HUGE = {"width": 768, "depth": 12, "dim": 1024}
NORMS = ("norm_layer.weight", "norm_1.weight", "norm_2.weight", "modality_heads.audio.0.weight")


def shapes(width: int, depth: int, dim: int) -> dict[str, tuple[int, ...]]:
    """Name, as published, -> shape of each tensor of the audio trunk."""
    stem, head = "modality_preprocessors.audio.", "modality_heads.audio."
    found: dict[str, tuple[int, ...]] = {
        f"{stem}cls_token": (1, 1, width),
        f"{stem}rgbt_stem.proj.weight": (width, 1, 16, 16),
        f"{stem}rgbt_stem.norm_layer.weight": (width,),
        f"{stem}rgbt_stem.norm_layer.bias": (width,),
        f"{stem}pos_embedding_helper.pos_embed": (1, 229, width),
    }
    for number in range(depth):
        block = f"modality_trunks.audio.blocks.{number}."
        for norm in ("norm_1", "norm_2"):
            found |= {f"{block}{norm}.weight": (width,), f"{block}{norm}.bias": (width,)}
        found |= {f"{block}attn.in_proj_weight": (3 * width, width), f"{block}attn.in_proj_bias": (3 * width,)}
        found |= {f"{block}attn.bias_k": (1, 1, width), f"{block}attn.bias_v": (1, 1, width)}
        found |= {f"{block}attn.out_proj.weight": (width, width), f"{block}attn.out_proj.bias": (width,)}
        found |= {f"{block}mlp.fc1.weight": (4 * width, width), f"{block}mlp.fc1.bias": (4 * width,)}
        found |= {f"{block}mlp.fc2.weight": (width, 4 * width), f"{block}mlp.fc2.bias": (width,)}
    found |= {f"{head}0.weight": (width,), f"{head}0.bias": (width,), f"{head}2.weight": (dim, width)}
    return found | {"modality_postprocessors.audio.1.log_logit_scale": ()}


def by_formula(variant: str = "b", width: int = 64, depth: int = 2, dim: int = 1024) -> dict[str, Tensor]:
    """The tensors that the golden values belong to: seeded by their names, of `variant` a (small) or b (wider apart)."""
    return {key: _tensor(key, shape, variant) for key, shape in shapes(width, depth, dim).items()}


def _tensor(key: str, shape: tuple[int, ...], variant: str) -> Tensor:
    if key.endswith("log_logit_scale"):
        return torch.tensor(1.0)
    x = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF).standard_normal(shape).astype(np.float32)
    if key.endswith(NORMS):
        return torch.from_numpy(1 + 0.1 * x)
    scale = 0.02
    if variant == "b":
        wide = {"in_proj_weight": 0.04, "bias_k": 1.0, "bias_v": 1.0, "cls_token": 0.2, "pos_embed": 0.2}
        scale = next((value for end, value in wide.items() if key.endswith(end)), scale)
    return torch.from_numpy(np.float32(scale) * x)


def wave(seconds: int) -> Tensor:
    """A sound of the golden values (1, 1, T) at 16 kHz: noise that swells under a rising tone."""
    n = 16000 * seconds
    t = np.arange(n) / 16000
    noise = np.random.RandomState(seconds).standard_normal(n)
    env = 0.5 - 0.5 * np.cos(2 * np.pi * 1.25 * t)
    tone = np.sin(2 * np.pi * (300 * t + 1000 * t**2 / seconds))
    samples = 0.1 * (0.02 + 0.98 * env) * noise + 0.2 * (1 - env) * tone
    return torch.from_numpy(samples.astype(np.float32))[None, None]


def text_trunk(width: int, depth: int = 2) -> dict[str, Tensor]:
    """The text trunk, as published, of `depth` blocks: OpenCLIP's text encoder under ImageBind's names."""
    generator = torch.Generator().manual_seed(5)
    stem, head = "modality_preprocessors.text.", "modality_heads.text.proj."

    def normal(*shape: int, std: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * std

    found = {f"{stem}token_embedding.weight": normal(49408, width, std=0.5)}
    found[f"{stem}pos_embed"] = normal(1, 77, width, std=0.1)
    found[f"{stem}mask"] = torch.full((77, 77), float("-inf")).triu_(1)
    for number in range(depth):
        block = f"modality_trunks.text.blocks.{number}."
        for name, n_out, n_in in (
            ("attn.out_proj.", width, width),
            ("mlp.fc1.", 4 * width, width),
            ("mlp.fc2.", width, 4 * width),
        ):
            found |= {
                f"{block}{name}weight": normal(n_out, n_in, std=n_in**-0.5),
                f"{block}{name}bias": normal(n_out, std=0.1),
            }
        found[f"{block}attn.in_proj_weight"] = normal(3 * width, width, std=width**-0.5)
        found[f"{block}attn.in_proj_bias"] = normal(3 * width, std=0.1)
        for norm in ("norm_1", "norm_2"):
            found |= {
                f"{block}{norm}.weight": 1 + normal(width, std=0.1),
                f"{block}{norm}.bias": normal(width, std=0.1),
            }
    found |= {f"{head}0.weight": 1 + normal(width, std=0.1), f"{head}0.bias": normal(width, std=0.1)}
    found[f"{head}1.weight"] = normal(width, width, std=width**-0.5)
    return found | {"modality_postprocessors.text.1.log_logit_scale": torch.tensor(math.log(50.0))}


def published(
    path: Path, layout: str = "published", others: bool = True, texts: bool = False, seed: int = 0, **sizes: int
) -> Path:
    """A file in a published layout: `published` (.pth, or .safetensors by its suffix) or `transformers`.

    `others`: with some tensors of the other modalities, as a real one has them; `texts`: with a text trunk as wide as the
    embedding. Its scale is 20, as published.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = by_formula("b", **{**SIZES, **sizes})
    tensors = {name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator) for name, tensor in tensors.items()}
    tensors["modality_postprocessors.audio.1.log_logit_scale"] = torch.tensor(math.log(20.0))
    if layout == "transformers":
        column = imagebind_files.TRANSFORMERS
        own = {name: imagebind_files._own_name(name, imagebind_files.PUBLISHED) for name in tensors}
        tensors = {imagebind_files.published_name(own[name], column): tensor for name, tensor in tensors.items()}
        if others:
            tensors |= {
                "vision_model.embeddings.cls_token": torch.zeros(1, 1, 8),
                "text_projection.weight": torch.zeros(4, 8),
            }
    elif others:
        rest = "modality_trunks.{}.blocks.0.attn.in_proj_weight"
        tensors |= {rest.format(name): torch.ones(24, 8) for name in ("vision", "depth", "thermal", "imu")}
        tensors["modality_preprocessors.vision.cls_token"] = torch.ones(1, 1, 8)
    if texts:
        tensors |= text_trunk({**SIZES, **sizes}["dim"])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def change(path: Path, what) -> None:
    """Replace the tensors of a file by `what(tensors)`."""
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        save_file(what(load_file(path)), path)
    else:
        torch.save(what(torch.load(path, weights_only=True)), path)


def original_texts(tensors: dict, texts: list[list[int]]) -> torch.Tensor:
    """The published text trunk in PyTorch's own layers: ids with start and end -> unit vectors."""
    tensors = {name.split(".text.", 1)[1]: tensor for name, tensor in tensors.items() if ".text." in name}
    width = tensors["pos_embed"].shape[-1]
    found = []
    for ids in texts:
        x = tensors["token_embedding.weight"][torch.tensor([ids])] + tensors["pos_embed"][:, : len(ids)]
        for number in range(2):
            block = {
                n.removeprefix(f"blocks.{number}."): t for n, t in tensors.items() if n.startswith(f"blocks.{number}.")
            }
            y = F.layer_norm(x, (width,), block["norm_1.weight"], block["norm_1.bias"], 1e-6)
            attention = torch.nn.MultiheadAttention(width, width // 64, batch_first=True)
            attention.load_state_dict({n.removeprefix("attn."): t for n, t in block.items() if n.startswith("attn.")})
            mask = tensors["mask"][: len(ids), : len(ids)]
            x = x + attention(y, y, y, attn_mask=mask, need_weights=False)[0]
            y = F.layer_norm(x, (width,), block["norm_2.weight"], block["norm_2.bias"], 1e-6)
            y = F.gelu(F.linear(y, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
            x = x + F.linear(y, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        last = F.layer_norm(x[:, -1], (width,), tensors["proj.0.weight"], tensors["proj.0.bias"], 1e-6)
        found.append(F.normalize(F.linear(last, tensors["proj.1.weight"]), dim=-1))
    return torch.cat(found)
