"""Textual inversion files of other programs: read safely, written for those programs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
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

    Known forms are those that the host reads: named tensors (ComfyUI, diffusers, SDXL's `clip_l` and `clip_g`, A1111's
    `emb_params`), dicts with `string_to_param` (the original, A1111), lists of such tensors, and LoRAs with a
    `bundle_emb`. Of several placeholders the first counts, as in the host. Files other than safetensors are read as
    tensors alone, never as code.
    """
    path = Path(path)
    if _is_safetensors(path):
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


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() in (".safetensors", ".sft")


def _read(path: Path):
    try:
        if _is_safetensors(path):
            return read_tensors(path)[1]
        with _harmless_types():
            return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, SafetensorError):
        reason = "it is damaged or missing"
    except Exception as error:  # unpickling an unknown file can raise anything
        reason = f"it holds more than tensors, or is damaged: {type(error).__name__}"
    raise TokenError(
        f"{path.name} cannot be read ({reason})",
        "An embedding must be a .safetensors file, or a .pt or .bin file that holds only tensors",
        "Download the file again, or look for a .safetensors version",
    )


def _harmless_types():
    """What original embeddings hold besides tensors, allowed to `weights_only`: a ParameterDict, and numpy's step counts."""
    allowed = getattr(torch.serialization, "safe_globals", None)
    if allowed is None:  # torch before 2.5
        return contextlib.nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    return allowed([torch.nn.ParameterDict, np.dtype, *kinds, *names])


def _rows_by_encoder(content, name: str) -> dict[str, Tensor]:
    tensors = _tensors_of(content)
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
            "An embedding has 1 to 75 finite vectors for each text encoder: 768 wide for SD1.x, 1024 for SD2.x, "
            "768 and 1280 for SDXL",
            "Choose an embedding of one of these families",
        )
    return found


def _tensors_of(content) -> dict[str, Tensor]:
    """The tensors that the host would take, by name: one for each text encoder."""
    if isinstance(content, list):
        parts = [part for entry in content if isinstance(entry, dict) for part in _only_tensors(entry).values()]
        return _joined(parts)
    if not isinstance(content, dict):
        return {}
    if "string_to_param" in content:
        return _first(_only_tensors(_as_dict(content["string_to_param"])))
    tensors = _only_tensors(content)
    named = {key: tensor for key, tensor in tensors.items() if key in KEY_OF_WIDTH.values()}
    return named or _bundled(tensors) or _first(tensors)


def _as_dict(value) -> dict:
    """A dict, or what a ParameterDict holds; one that was pickled keeps its tensors as a module does."""
    if isinstance(value, torch.nn.ParameterDict):
        kept = dict(vars(value))
        return {**_as_dict(kept.get("_parameters")), **{k: v for k, v in kept.items() if isinstance(v, Tensor)}}
    return dict(value) if isinstance(value, dict) else {}


def _only_tensors(content: dict) -> dict[str, Tensor]:
    return {str(key): tensor for key, tensor in content.items() if isinstance(tensor, Tensor)}


def _first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first tensor of each width."""
    found: dict[int, tuple[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found.setdefault(tensor.shape[-1] if tensor.ndim else 0, (key, tensor))
    return dict(found.values())


def _bundled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows of the embeddings that a LoRA's file brings along, all of one kind joined as the host joins them."""
    inside = {key: t for key, t in tensors.items() if key.startswith("bundle_emb.") and t.ndim}
    plain = [tensor for key, tensor in inside.items() if key.endswith(".string_to_param.*")]
    if plain:
        return _joined(plain)
    ends = {
        encoder: [t for key, t in inside.items() if key.endswith(f".{encoder}")] for encoder in KEY_OF_WIDTH.values()
    }
    return {encoder: torch.cat([_as_rows(t) for t in parts]) for encoder, parts in ends.items() if parts}


def _joined(parts: list[Tensor]) -> dict[str, Tensor]:
    """Rows of one width joined, under a name for each width."""
    widths = dict.fromkeys(part.shape[-1] for part in parts if part.ndim)
    return {f"{w} wide": torch.cat([_as_rows(p) for p in parts if p.ndim and p.shape[-1] == w]) for w in widths}


def _as_rows(tensor: Tensor) -> Tensor:
    return tensor.detach().float().reshape(-1, tensor.shape[-1])


def export(token: AudioToken, folder: Path, name: str, form: str) -> list[Path]:
    """Write v* for other programs and return the files; raises `TokenError`.

    `diffusers`: {<name>: rows}, a file for each text encoder, since its loader takes one tensor. `a1111`: {emb_params}
    for one text encoder, {clip_l, clip_g} for SDXL.
    """
    if form not in EXPORTS:
        raise TokenError(f"export is {form!r}", f"It must be one of {', '.join(EXPORTS)}", "Choose one of them")
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
