"""Stand-ins with random weights for models that cannot be shipped: a tiny SD1.5-class checkpoint and a tiny CAVT-MAE.

They have the real architectures' names and shapes and are loaded by the stock loaders; their pictures carry no meaning.
Every tensor is a window on a small pool of seeded random numbers, so the files stay small.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

from .report import DevError
from .server import Workspace
from .workflows import StandIns

POOL = 2**19  # random numbers behind all tensors of one scale
WIDTH = 320  # channels that make the host take the file for SD1.5
CONTEXT = 768


class WeightMaker:
    """Makes tensors by shape; those of about the same fan-in share one pool."""

    def __init__(self, seed: int):
        self._seed = seed
        self._pools: dict[int, Tensor] = {}

    def _pool(self, exponent: int) -> Tensor:
        if exponent not in self._pools:
            generator = torch.Generator().manual_seed(self._seed * 1000 + exponent)
            self._pools[exponent] = (torch.randn(POOL, generator=generator) * 2.0**-exponent).half()
        return self._pools[exponent]

    def normal(self, *shape: int, std: float | None = None) -> Tensor:
        """About N(0, 1 / fan-in) unless `std` is given; rows are shifted windows, so no two are equal."""
        inner = math.prod(shape[1:])
        std = std if std is not None else inner**-0.5
        stride = max(1, (POOL - inner) // shape[0])
        flat = self._pool(round(-math.log2(std))).as_strided((shape[0], inner), (stride, 1))
        inner_strides = [math.prod(shape[i + 1 :]) for i in range(1, len(shape))]
        return flat.as_strided(shape, (stride, *inner_strides))

    def vector(self, size: int, value: float = 0.0) -> Tensor:
        return torch.full((size,), value, dtype=torch.float16)

    def linear(self, name: str, n_out: int, n_in: int, *kernel: int, bias: bool = True) -> dict[str, Tensor]:
        tensors = {f"{name}.weight": self.normal(n_out, n_in, *kernel)}
        return tensors | ({f"{name}.bias": self.vector(n_out)} if bias else {})

    def norm(self, name: str, size: int) -> dict[str, Tensor]:
        return {f"{name}.weight": self.vector(size, 1.0), f"{name}.bias": self.vector(size)}


def _res_block(make: WeightMaker, name: str, n_in: int) -> dict[str, Tensor]:
    tensors = make.norm(f"{name}.in_layers.0", n_in) | make.linear(f"{name}.in_layers.2", WIDTH, n_in, 3, 3)
    tensors |= make.linear(f"{name}.emb_layers.1", WIDTH, 4 * WIDTH)
    tensors |= make.norm(f"{name}.out_layers.0", WIDTH) | make.linear(f"{name}.out_layers.3", WIDTH, WIDTH, 3, 3)
    return tensors | (make.linear(f"{name}.skip_connection", WIDTH, n_in, 1, 1) if n_in != WIDTH else {})


def _transformer(make: WeightMaker, name: str) -> dict[str, Tensor]:
    tensors = make.norm(f"{name}.norm", WIDTH)
    tensors |= make.linear(f"{name}.proj_in", WIDTH, WIDTH, 1, 1) | make.linear(f"{name}.proj_out", WIDTH, WIDTH, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, width in (("attn1", WIDTH), ("attn2", CONTEXT)):
        tensors |= make.linear(f"{block}.{attention}.to_q", WIDTH, WIDTH, bias=False)
        tensors |= make.linear(f"{block}.{attention}.to_k", WIDTH, width, bias=False)
        tensors |= make.linear(f"{block}.{attention}.to_v", WIDTH, width, bias=False)
        tensors |= make.linear(f"{block}.{attention}.to_out.0", WIDTH, WIDTH)
    tensors |= make.linear(f"{block}.ff.net.0.proj", 8 * WIDTH, WIDTH) | make.linear(
        f"{block}.ff.net.2", WIDTH, 4 * WIDTH
    )
    for number in (1, 2, 3):
        tensors |= make.norm(f"{block}.norm{number}", WIDTH)
    return tensors


def unet_tensors(make: WeightMaker) -> dict[str, Tensor]:
    """One level, one residual block, a transformer at each place: 25.8 M parameters."""
    tensors = make.linear("time_embed.0", 4 * WIDTH, WIDTH) | make.linear("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    tensors |= make.linear("input_blocks.0.0", WIDTH, 4, 3, 3)
    places = {"input_blocks.1": WIDTH, "output_blocks.0": 2 * WIDTH, "output_blocks.1": 2 * WIDTH}
    for place, n_in in places.items():
        tensors |= _res_block(make, f"{place}.0", n_in) | _transformer(make, f"{place}.1")
    tensors |= _res_block(make, "middle_block.0", WIDTH) | _transformer(make, "middle_block.1")
    tensors |= _res_block(make, "middle_block.2", WIDTH)
    tensors |= make.norm("out.0", WIDTH) | make.linear("out.2", 4, WIDTH, 3, 3)
    # A random network must not throw the latents far off, or tolerances lose their meaning.
    tensors["out.2.weight"] = make.normal(4, WIDTH, 3, 3, std=2.0**-9)
    return tensors


def clip_l_tensors(make: WeightMaker) -> dict[str, Tensor]:
    """CLIP ViT-L/14's text tower: 12 layers, 768 wide."""
    tensors = {
        "embeddings.token_embedding.weight": make.normal(49408, CONTEXT, std=2.0**-6),
        "embeddings.position_embedding.weight": make.normal(77, CONTEXT, std=2.0**-8),
    }
    for index in range(12):
        layer = f"encoder.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= make.linear(f"{layer}.self_attn.{projection}", CONTEXT, CONTEXT)
        tensors |= make.norm(f"{layer}.layer_norm1", CONTEXT) | make.norm(f"{layer}.layer_norm2", CONTEXT)
        tensors |= make.linear(f"{layer}.mlp.fc1", 4 * CONTEXT, CONTEXT)
        tensors |= make.linear(f"{layer}.mlp.fc2", CONTEXT, 4 * CONTEXT)
    return tensors | make.norm("final_layer_norm", CONTEXT)


def taesd_tensors(make: WeightMaker) -> dict[str, Tensor]:
    """The tiny autoencoder TAESD."""
    tensors: dict[str, Tensor] = {}

    def stack(name: str, first: tuple, blocks: tuple[int, ...], plain: tuple[int, ...], last: tuple) -> None:
        nonlocal tensors
        tensors |= make.linear(f"{name}.{first[0]}", 64, first[1], 3, 3)
        for index in blocks:
            for part in (0, 2, 4):
                tensors |= make.linear(f"{name}.{index}.conv.{part}", 64, 64, 3, 3)
        for index in plain:
            tensors |= make.linear(f"{name}.{index}", 64, 64, 3, 3, bias=False)
        tensors |= make.linear(f"{name}.{last[0]}", last[1], 64, 3, 3)

    stack("taesd_encoder", (0, 3), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), (2, 6, 10), (14, 4))
    stack("taesd_decoder", (1, 4), (3, 4, 5, 8, 9, 10, 13, 14, 15, 18), (7, 12, 17), (19, 3))
    # Residual sums double the variance block by block; pictures should neither saturate nor vanish.
    for name, value in {"taesd_encoder.14": -7, "taesd_decoder.19": -8}.items():
        n_out = tensors[f"{name}.weight"].shape[0]
        tensors[f"{name}.weight"] = make.normal(n_out, 64, 3, 3, std=2.0**value)
    tensors["taesd_decoder.19.bias"] = make.vector(3, 0.5)
    return tensors


def write_checkpoint(path: Path, seed: int = 0) -> None:
    """A checkpoint that the stock CheckpointLoaderSimple takes for SD1.5; a few megabytes on disk."""
    make = WeightMaker(seed)
    parts = {
        "model.diffusion_model.": unet_tensors(make),
        "cond_stage_model.transformer.text_model.": clip_l_tensors(make),
        "first_stage_model.": taesd_tensors(make),
    }
    tensors = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    torch.save({"state_dict": tensors}, path)


def cavt_tensors(make: WeightMaker, depth: int = 1, dim: int = 768, images: bool = True) -> dict[str, Tensor]:
    """Towers of CAVT-MAE with `depth` blocks each before the shared one; without `images` the audio tower alone."""
    tensors: dict[str, Tensor] = {}
    for letter, channels, tokens in (("a", 1, 512), *((("v", 3, 196),) if images else ())):
        tensors |= make.linear(f"patch_embed_{letter}.proj", dim, channels, 16, 16)
        tensors[f"modality_{letter}"] = make.normal(1, 1, dim, std=2.0**-6)
        tensors[f"pos_embed_{letter}"] = make.normal(1, tokens, dim, std=2.0**-3)
        for index in range(depth):
            tensors |= _cavt_block(make, f"blocks_{letter}.{index}", dim)
        tensors |= make.norm(f"norm_{letter}", dim)
    tensors |= _cavt_block(make, "blocks_u.0", dim)
    return tensors | (make.norm("norm", dim) if images else {})


def _cavt_block(make: WeightMaker, block: str, dim: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for norm in ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v"):
        tensors |= make.norm(f"{block}.{norm}", dim)
    tensors |= make.linear(f"{block}.attn.qkv", 3 * dim, dim) | make.linear(f"{block}.attn.proj", dim, dim)
    return tensors | make.linear(f"{block}.mlp.fc1", 4 * dim, dim) | make.linear(f"{block}.mlp.fc2", dim, 4 * dim)


def write_cavt(path: Path, seed: int = 0) -> None:
    """A CAVT-MAE of two blocks in the published layout (`module.` prefixes and all); .safetensors says that it is aligned."""
    tensors = {f"module.{name}": tensor for name, tensor in cavt_tensors(WeightMaker(seed)).items()}
    if path.suffix == ".safetensors":
        tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, path, metadata={"aai.aligned_with": "clip_l"})
    else:
        torch.save(tensors, path)


def write_references(folder: Path, seed: int = 0, count: int = 4) -> list[Path]:
    """Simple drawings of different sizes: a bright flash over dark ground."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for index in range(count):
        width, height = (int(n) for n in rng.integers(96, 200, size=2))
        image = Image.new("RGB", (width, height), tuple(int(n) for n in rng.integers(10, 60, size=3)))
        draw = ImageDraw.Draw(image)
        centre = rng.uniform(0.35, 0.65, size=2) * (width, height)
        for radius in np.linspace(0.45, 0.05, 9) * min(width, height):
            glow = tuple(int(v) for v in (255 - 2.0 * radius, 220 - 3.2 * radius, 120 - 2.0 * radius))
            box = [*(centre - radius), *(centre + radius)]
            draw.ellipse([float(v) for v in box], fill=tuple(max(0, v) for v in glow))
        path = folder / f"aai_reference_{index + 1}.png"
        image.save(path)
        paths.append(path)
    return paths


def install(workspace: Workspace, sounds: Path) -> StandIns:
    """Put stand-in models, reference pictures and the recordings of the folder `sounds` where ComfyUI looks for them."""
    write_checkpoint(workspace.models / "checkpoints" / "stand_in_sd15.ckpt")
    write_cavt(workspace.models / "cavt_mae" / "stand_in_cavt.safetensors")
    references = write_references(workspace.input)
    write_references(workspace.input / "pictures", seed=1, count=9)
    recordings = sorted(path for path in sounds.iterdir() if path.suffix in (".wav", ".flac", ".ogg", ".mp3", ".opus"))
    if not recordings:
        raise DevError(f"{sounds} holds no recording. Put a wav, flac, ogg, mp3 or opus file into it.")
    for path in recordings:
        shutil.copy(path, workspace.input / path.name)
    return StandIns(
        checkpoint="stand_in_sd15.ckpt",
        cavt="stand_in_cavt.safetensors",
        sound=recordings[0].name,
        references=tuple(path.name for path in references),
        pictures="pictures",
    )
