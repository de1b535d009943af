"""Converts a published CAV-MAE or CAVT-MAE checkpoint to safetensors, encoders alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import read_header, read_tensors, write_atomically
from . import alignment, centre
from .cavt_mae import AUDIO_ONLY, CAVTMAE, encoder_tensors
from .self_test import self_test

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
HASH_BLOCK = 2**22  # bytes
KEPT = ("config", "data", alignment.HEADER, alignment.TEXT_ENCODER, centre.HEADER)  # of a header


def file_sha256(path: str | Path) -> str:
    """Hash of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a .pth that holds tensors alone (no code is ever run)."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)[1]
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a hostile pickle leads it to
        raise CheckpointError(
            f"{path.name} cannot be read as a model file ({type(error).__name__})",
            "It must be a .safetensors file, or a .pth file that holds only tensors",
            "Download the file again",
        ) from None
    while isinstance(state_dict, dict) and isinstance(state_dict.get("state_dict"), dict):
        state_dict = state_dict["state_dict"]
    if not isinstance(state_dict, dict) or not all(isinstance(t, Tensor) for t in state_dict.values()):
        raise CheckpointError(f"{path.name} holds other things than named tensors", "It must hold only named tensors")
    return state_dict


def convert(
    source: str | Path, target: str | Path, dtype: str = "fp16", audio_only: bool = False, aligned_with: str = ""
) -> dict[str, str]:
    """Write the encoders of `source` to `target` (.safetensors), atomically -> the metadata in its header.

    `dtype`: fp16 or fp32; `audio_only` leaves the image tower out; `aligned_with` declares what its sounds are aligned
    with (`alignment.KNOWN`; "": what the source says). The result is checked as `CAVTMAE.from_state_dict`
    and `self_test` check it before it is put in place; what it was trained with stays in the header. Raises
    `CheckpointError`.
    """
    source, target = Path(source), Path(target)
    tensors = encoder_tensors(read_state_dict(source))
    if audio_only:
        tensors = {name: tensor for name, tensor in tensors.items() if AUDIO_ONLY.match(name)}
    model = CAVTMAE.from_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    with torch.inference_mode():
        self_test(model.encode_audio, encode_image=model.encode_image if model.has_images else None)
    metadata = {
        "source": source.name,
        "sha256": file_sha256(source),
        "variant": "cavt-mae" if model.has_images else "cavt-mae-audio",
        "dtype": dtype,
    }
    if source.suffix == ".safetensors":
        header = read_header(source)
        metadata |= {name: header[name] for name in KEPT if name in header}
    if aligned_with:
        metadata[alignment.HEADER] = aligned_with
    tensors = {name: tensor.to(DTYPES[dtype]).clone().contiguous() for name, tensor in tensors.items()}
    write_atomically(target, lambda path: save_file(tensors, path, metadata=metadata), CheckpointError, "the encoder")
    return metadata
