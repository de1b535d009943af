"""The file of the pocket models' weights: int8 with a scale for each row where a tensor is large, half precision elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...aai_models.errors import PocketError
from ...aai_models.files import read_tensors, write_atomically

FORMAT = "aai-pocket-1"
PATH = Path(__file__).resolve().parent.parent / "weights" / "pocket.safetensors"
PARTS = ("unet", "text", "vae", "cavt")
LARGE = 4096  # values from which a tensor of two or more axes is kept in int8
SCALES = ".scale"


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float tensors -> int8 rows with scales (n_out,), or half precision."""
    packed = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().float()
        if tensor.ndim < 2 or tensor.numel() < LARGE:
            packed[name] = tensor.half().contiguous()
            continue
        flat = tensor.flatten(1)
        scale = (flat.abs().amax(1) / 127).clamp_min(1e-8)
        packed[name] = (flat / scale[:, None]).round().to(torch.int8).view(tensor.shape).contiguous()
        packed[name + SCALES] = scale.half()
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` kept, as float32."""
    tensors = {}
    for name, tensor in packed.items():
        if name.endswith(SCALES):
            continue
        tensors[name] = tensor.float()
        if name + SCALES in packed:
            scale = packed[name + SCALES].float()
            tensors[name] = tensors[name] * scale.view(-1, *[1] * (tensor.ndim - 1))
    return tensors


def save(parts: dict[str, dict[str, Tensor]], about: dict, path: Path = PATH) -> None:
    """Write the weights of all parts, with what is to be known about them; raises `PocketError`."""
    tensors = {f"{part}.{name}": t for part, own in parts.items() for name, t in pack(own).items()}
    header = {"format": FORMAT, "about": json.dumps(about)}
    write_atomically(path, lambda file: save_file(tensors, file, metadata=header), PocketError, "20 megabytes")


def load(path: Path = PATH) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """(parts, about). Raises `PocketError` for a missing or damaged file, and says how to get it."""
    if not path.is_file():
        raise PocketError(
            f"The pocket models' weights are not at {path}",
            "They come with the pack",
            "Install the pack again (git checkout of pocket/weights), or train them with `python -m lab train`, "
            "as docs/pocket.md describes; or use a checkpoint of your own",
        )
    try:
        header, packed = read_tensors(path)
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}")
        about = json.loads(header["about"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise PocketError(
            f"{path} is damaged ({error})",
            f"It must be a safetensors file of format {FORMAT}",
            "Restore it: git checkout -- pocket/weights, or install the pack again",
        ) from error
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in packed.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    missing = [part for part in PARTS if not parts[part]]
    if missing:
        raise PocketError(
            f"{path} lacks {', '.join(missing)}",
            f"It must hold {', '.join(PARTS)}",
            "Restore it: git checkout -- pocket/weights",
        )
    return {part: unpack(own) for part, own in parts.items()}, about
