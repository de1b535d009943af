"""Textual inversion files of other programs: read safely, written for those programs."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import TokenError
from ..files import read_tensors, write_atomically
from .token import AudioToken

KEY_OF_WIDTH = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
MAX_ROWS = 75  # a prompt's chunk
EXPORTS = ("none", "diffusers", "a1111", "both")


def load_any(path: str | os.PathLike) -> AudioToken:
    """Read our token, or any textual inversion as a word without a sound. Raises `TokenError` for anything else.

    Known forms: named tensors (ComfyUI, diffusers, SDXL's `clip_l` and `clip_g`, A1111's `emb_params`), and dicts with
    `string_to_param` (the original, A1111). Files other than .safetensors are read as tensors alone, never as code.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            return AudioToken.load(path)
        except TokenError:
            pass  # an ordinary embedding, or nothing that can be read: what follows tells
    rows = _rows_by_encoder(_read(path), path.name)
    return AudioToken(
        audio_feature=torch.zeros(768),
        adapters=rows,
        scales=dict.fromkeys(rows, 0.0),
        metadata={"source": path.name},
    )


def _read(path: Path):
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)[1]
        return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, SafetensorError):
        reason = "it is damaged or missing"
    except Exception as error:  # whatever unpickling a stranger's file can raise
        reason = f"it holds more than tensors, or is damaged: {type(error).__name__}"
    raise TokenError(
        f"{path.name} cannot be read ({reason})",
        "An embedding is a .safetensors file, or a .pt or .bin file that holds tensors alone",
        "Fetch the file again, or look for its .safetensors form",
    )


def _rows_by_encoder(content, name: str) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("string_to_param"), dict):
        content = content["string_to_param"]
    tensors = {str(k): t for k, t in content.items() if isinstance(t, Tensor)} if isinstance(content, dict) else {}
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        rows = tensor.detach().float().reshape(-1, tensor.shape[-1]).clone() if tensor.ndim else tensor
        encoder = KEY_OF_WIDTH.get(rows.shape[-1]) if rows.ndim == 2 else None
        sound = encoder and encoder not in found and 0 < rows.shape[0] <= MAX_ROWS and bool(rows.isfinite().all())
        if not sound or (key in KEY_OF_WIDTH.values() and key != encoder):
            found = {}
            break
        found[encoder] = rows
    if not found or len({rows.shape[0] for rows in found.values()}) > 1:
        shapes = ", ".join(f"{key} {tuple(t.shape)}" for key, t in list(tensors.items())[:4])
        raise TokenError(
            f"{name} holds {shapes or 'no tensors'}",
            "An embedding has 1 to 75 finite rows for each text encoder: 768 wide for SD1.x, 1024 for SD2.x, "
            "768 and 1280 for SDXL",
            "Choose an embedding of one of these families",
        )
    return found


def export(token: AudioToken, folder: Path, name: str, form: str) -> list[Path]:
    """Write v* for other programs and return the files; raises `TokenError`.

    `diffusers`: {<name>: rows}, a file for each text encoder, since its loader takes one tensor. `a1111`: {emb_params}
    for one text encoder, {clip_l, clip_g} for SDXL.
    """
    if form not in EXPORTS:
        raise TokenError(f"export is {form!r}", f"It is one of {', '.join(EXPORTS)}", "Choose one of them")
    vectors = {key: v.detach().to("cpu", torch.float32).clone().contiguous() for key, v in token.vectors.items()}
    files: dict[str, dict[str, Tensor]] = {}
    if form in ("diffusers", "both"):
        for key, rows in vectors.items():
            suffix = f".{key}" if len(vectors) > 1 else ""
            files[f"{name}.diffusers{suffix}.safetensors"] = {f"<{name}>": rows}
    if form in ("a1111", "both"):
        single = {"emb_params": next(iter(vectors.values()))}
        files[f"{name}.a1111.safetensors"] = vectors if len(vectors) > 1 else single
    for file, tensors in files.items():
        write_atomically(
            folder / file, lambda temporary, t=tensors: save_file(t, temporary), TokenError, "a few kilobytes"
        )
    return [folder / file for file in files]
