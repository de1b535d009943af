"""A tiny random twin of AudioToken's two files: their names, layouts and settings, without their meaning."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch
from aai_pack.aai_models.align.audiotoken import files
from aai_pack.aai_models.align.audiotoken.audioset import names
from aai_pack.aai_models.align.audiotoken.beats import BEATsConfig

# As published, but for the sizes. The last three act in training alone.
CFG = {
    **{"encoder_layers": 12, "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12},
    **{"activation_fn": "gelu", "layer_norm_first": False, "deep_norm": True, "conv_bias": False, "conv_pos": 128},
    **{"conv_pos_groups": 16, "relative_position_embedding": True, "num_buckets": 320, "max_distance": 800},
    **{"gru_rel_pos": True, "input_patch_size": 16, "embed_dim": 512, "finetuned_model": True, "predictor_class": 527},
    **{"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "dropout_input": 0.0},
    **{"predictor_dropout": 0.0, "encoder_layerdrop": 0.05, "layer_wise_gradient_decay_ratio": 0.6},
}
TINY = {"encoder_embed_dim": 64, "encoder_ffn_embed_dim": 64, "encoder_attention_heads": 4, "embed_dim": 32}


def config() -> BEATsConfig:
    return files.read_config("twin", CFG | TINY)


def tensors(table: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights so large that different sounds give quite different words; all layers share one table of positions."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, shape in table.items():
        drawn = torch.randn(shape, generator=generator)
        if name.endswith("norm.weight") or name.endswith(("weight_g", "grep_a")):
            found[name] = 1 + 0.1 * drawn
        elif len(shape) > 1:
            found[name] = drawn * (1.5 / drawn[0].numel() ** 0.5)
        else:
            found[name] = 0.1 * drawn
    shared = next((t for n, t in found.items() if n.endswith("relative_attention_bias.weight")), None)
    return {n: shared.clone() if n.endswith("relative_attention_bias.weight") else t for n, t in found.items()}


def beats_content(seed: int = 0) -> dict:
    labels = dict(enumerate(reversed(list(names()))))  # the file has an order of its own
    return {
        "cfg": CFG | TINY,
        "model": tensors(files.published_shapes(config()), seed),
        "label_dict": labels,
    }


def write(folder: Path, seed: int = 0, *, beats: dict | None = None, embedder: dict | None = None) -> Path:
    """Both files in a folder; `beats` and `embedder` replace what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(beats_content(seed) if beats is None else beats, folder / files.BEATS)
    own = tensors(files.embedder_shapes(config()), seed + 1) if embedder is None else embedder
    write_from_gpu(folder / files.EMBEDDER, own)
    return folder


def write_from_gpu(path: Path, content: dict) -> None:
    """Save tensors as a computer with a GPU does: each says that it lay there."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as saved, zipfile.ZipFile(path, "w") as written:
        for name in saved.namelist():
            data = saved.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            written.writestr(name, data)


def lora(rank: int = 4, width: int = 320) -> dict[str, torch.Tensor]:
    """A few of the keys of `lora_layers_learned_embeds.bin`."""
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor"
    parts = {f"{block}.to_{p}_lora.down.weight": torch.zeros(rank, width) for p in ("q", "k", "v", "out")}
    return parts | {name.replace("down.weight", "up.weight"): t.T.contiguous() for name, t in parts.items()}
