"""ImageBind's files as people have them: told from others by names, and its audio trunk alone read from them, strictly.

A published file holds six modalities (4.8 GB as float32); of it only the 177 tensors of the audio trunk are read.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..shapes import lacking, shapes_of
from .foreign_files import tensor_names
from .imagebind import HEAD_DIM, LOG_SCALE, ImageBindAudio, ImageBindConfig
from .published_folders import require_whole

SCALE = "log_logit_scale"
# The pack's name of a tensor, or of the tensors that begin so -> as published -> in transformers' layout.
NAMES = (
    ("cls_token", "modality_preprocessors.audio.cls_token", "audio_model.embeddings.cls_token"),
    (
        "pos_embed",
        "modality_preprocessors.audio.pos_embedding_helper.pos_embed",
        "audio_model.embeddings.position_embeddings",
    ),
    (
        "stem.proj.",
        "modality_preprocessors.audio.rgbt_stem.proj.",
        "audio_model.embeddings.patch_embedding.projection.",
    ),
    (
        "stem.norm.",
        "modality_preprocessors.audio.rgbt_stem.norm_layer.",
        "audio_model.embeddings.patch_embedding.layernorm.",
    ),
    ("blocks.", "modality_trunks.audio.blocks.", "audio_model.encoder.layers."),
    ("norm.", "modality_heads.audio.0.", "audio_model.layernorm."),
    ("projection.", "modality_heads.audio.2.", "audio_projection."),
    (SCALE, "modality_postprocessors.audio.1.log_logit_scale", "audio_postprocessor.log_logit_scale"),
)
# Inside a block.
IN_BLOCKS = (
    ("norm_1.", "norm_1.", "layernorm_before."),
    ("norm_2.", "norm_2.", "layernorm_after."),
    ("attn.in_proj.", "attn.in_proj_", "self_attn.qkv_proj."),
    ("attn.bias_k", "attn.bias_k", "self_attn.k_bias"),
    ("attn.bias_v", "attn.bias_v", "self_attn.v_bias"),
    ("attn.out_proj.", "attn.out_proj.", "self_attn.out_proj."),
    ("mlp.", "mlp.", "mlp."),
)
PUBLISHED, TRANSFORMERS = 1, 2  # columns of the tables above
BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
# What is in the names of every file of a layout, and of no other model's.
MARKS = {
    PUBLISHED: (b"modality_preprocessors.", b"modality_trunks."),
    TRANSFORMERS: (b"audio_model.embeddings.patch_embedding.projection", b"audio_projection.weight"),
}
# Names of audio tensors; all of them are used.
AUDIO = {
    PUBLISHED: re.compile(r"modality_(preprocessors|trunks|heads|postprocessors)\.audio\."),
    TRANSFORMERS: re.compile(r"audio_(model|projection|postprocessor)\."),
}
EARLY = re.compile(r"(audio_model\.embeddings\.position_embedding)$")  # of an early revision of transformers' layout
FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
DO = "Download imagebind_huge.pth or its safetensors copy again from where it is published"


def find_weights(path: str | Path) -> Path | None:
    """The file with ImageBind's weights that a path is, or that a folder holds; None for any other model."""
    path = Path(path)
    files = [path / name for name in FOLDER_WEIGHTS] if path.is_dir() else [path]
    return next((file for file in files if file.is_file() and _layout(tensor_names(file))), None)


def _layout(names: bytes) -> int:
    """0: not ImageBind."""
    if any(mark in names for mark in MARKS[PUBLISHED]):
        return PUBLISHED
    return TRANSFORMERS if all(mark in names for mark in MARKS[TRANSFORMERS]) else 0


def read_trunk(path: str | Path) -> tuple[ImageBindConfig, dict[str, Tensor]]:
    """(sizes, tensors under the pack's names) of the audio trunk of a file that `find_weights` gave.

    The tensors are copies; nothing of the file stays open or mapped. Code in it is never run. Raises `CheckpointError`
    unless exactly the trunk's tensors are there, with the shapes that their sizes say.
    """
    path = Path(path)
    require_whole(path)
    layout = _layout(tensor_names(path))
    tensors = read_matching(path, AUDIO[layout])
    found = {_own_name(name, layout): (name, tensor) for name, tensor in tensors.items()}
    if not found:
        raise CheckpointError(
            f"{path.name} is an ImageBind without its audio trunk",
            "Sounds need the tensors whose names begin with modality_trunks.audio",
            "Download imagebind_huge.pth, which holds all parts",
        )
    scale = found.pop(SCALE, None)
    log_scale = LOG_SCALE if scale is None else float(scale[1].float().flatten()[0])
    config = _sizes(path.name, {name: tuple(tensor.shape) for name, (_, tensor) in found.items()}, log_scale, layout)
    _require_fit(path.name, config, found, layout)
    return config, {name: tensor for name, (_, tensor) in found.items()}


def read_matching(path: Path, pattern: re.Pattern[str]) -> dict[str, Tensor]:
    """Copies of the tensors whose names begin as `pattern` says, without `module.`; the rest is mapped at most, not read."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names = {str(name).removeprefix("module."): name for name in file.keys()}  # noqa: SIM118 (not a dict)
                return {plain: file.get_tensor(name).clone() for plain, name in names.items() if pattern.match(plain)}
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        state = state["state_dict"] if isinstance(state.get("state_dict"), dict) else state
        plain = {
            str(name).removeprefix("module."): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)
        }
        return {name: tensor.clone().contiguous() for name, tensor in plain.items() if pattern.match(name)}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as ImageBind ({type(error).__name__})", "It must hold named tensors", DO
        ) from None


def _own_name(name: str, layout: int) -> str:
    """A file's name of an audio tensor -> the pack's; an unknown one stays as it is."""
    name = EARLY.sub(r"\1s", name)
    for row in NAMES:
        if not name.startswith(row[layout]):
            continue
        own = row[0] + name.removeprefix(row[layout])
        block = BLOCK.fullmatch(own)
        if not block:
            return own
        for inner in IN_BLOCKS:
            if block[2].startswith(inner[layout]):
                return f"blocks.{block[1]}.{inner[0]}{block[2].removeprefix(inner[layout])}"
    return name


def published_name(own: str, layout: int = PUBLISHED) -> str:
    """The name in a file of a tensor under the pack's name."""
    block = BLOCK.fullmatch(own)
    if block:
        inner = next(row for row in IN_BLOCKS if block[2].startswith(row[0]))
        own = f"blocks.{block[1]}.{inner[layout]}{block[2].removeprefix(inner[0])}"
    row = next(row for row in NAMES if own.startswith(row[0]))
    return row[layout] + own.removeprefix(row[0])


def _sizes(name: str, shapes: dict[str, tuple[int, ...]], log_scale: float, layout: int) -> ImageBindConfig:
    """Read every size from the tensors' shapes; raises `CheckpointError` where one of them says none."""

    def shape(own: str, ndim: int) -> tuple[int, ...]:
        if len(shapes.get(own, ())) != ndim:
            found = shapes.get(own, "missing")
            raise CheckpointError(
                f"{name} has no whole audio trunk: {published_name(own, layout)} is {found}",
                "The sizes of the trunk are read from its tensors",
                DO,
            )
        return shapes[own]

    config = ImageBindConfig(
        width=shape("cls_token", 3)[2],
        depth=len({block[1] for block in map(BLOCK.fullmatch, shapes) if block}),
        mlp_dim=shape("blocks.0.mlp.fc1.weight", 2)[0],
        dim=shape("projection.weight", 2)[0],
        log_scale=log_scale,
    )
    if config.width % HEAD_DIM or not config.width:
        raise CheckpointError(
            f"The audio trunk of {name} is {config.width} wide", f"It must be a multiple of {HEAD_DIM}", DO
        )
    return config


def _require_fit(name: str, config: ImageBindConfig, found: dict[str, tuple[str, Tensor]], layout: int) -> None:
    expected = shapes_of(lambda: ImageBindAudio(config))
    missing = [published_name(own, layout) for own in expected if own not in found]
    unknown = [file_name for own, (file_name, _) in found.items() if own not in expected]
    if wrong := lacking(missing, unknown, "tensors of ImageBind's audio trunk"):
        raise CheckpointError(
            f"{name} {wrong}",
            f"A trunk of this size has exactly {len(expected)} and its scale",
            DO,
        )
    for own, shape in expected.items():
        file_name, tensor = found[own]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{file_name} of {name} has the shape {tuple(tensor.shape)}", f"The other tensors need {shape}", DO
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{file_name} of {name} holds {tensor.dtype}", "Weights are floating-point numbers", DO
            )
