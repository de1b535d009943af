"""Model files as named tensors."""

from __future__ import annotations

import comfy.utils
from torch import Tensor

from ....aai_models.errors import ExplainedError


def read_tensors(path: str, name: str, error: type[ExplainedError]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of an older one that holds no code; raises `error` for anything else."""
    try:
        tensors = comfy.utils.load_torch_file(path, safe_load=True)
    except Exception as reason:
        raise error(
            f"{name} cannot be read as a model file ({type(reason).__name__})",
            "It must be a .safetensors file, or a .pth file that holds only tensors",
            "Download the file again. A .pth with code in it must be converted to .safetensors first",
        ) from None
    if not isinstance(tensors, dict):
        raise error(f"{name} holds a {type(tensors).__name__}", "It must hold named tensors")
    return tensors
