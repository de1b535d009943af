"""Pocket models that Save Checkpoint wrote, with the LoRAs and merges that were in them."""

from __future__ import annotations

import folder_paths
from torch import Tensor

from ....aai_models.errors import PocketError
from ..base import folders
from ..base.model_files import read_tensors

# Part -> how the names of its tensors begin in a file of SD1.x's names.
PREFIXES = {
    "unet": "model.diffusion_model.",
    "text": "cond_stage_model.transformer.",
    "vae": "first_stage_model.",
}


def names() -> list[str]:
    """Files of models/checkpoints and output/checkpoints."""
    return folder_paths.get_filename_list("checkpoints")


def read(name: str) -> dict[str, dict[str, Tensor]]:
    """Tensors of UNet, text encoder and VAE under the host's names for each; raises `PocketError`."""
    path = folders.listed_path("checkpoints", name)
    if path is None:
        raise PocketError(
            f"There is no checkpoint {name!r}",
            "`weights` must be from the list: the weights of the pack, or a file that Save Checkpoint wrote",
            "Press R in ComfyUI if the file is new, or choose another",
        )
    tensors = read_tensors(path, name, PocketError)
    parts = {
        part: {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        for part, prefix in PREFIXES.items()
    }
    missing = [prefix for part, prefix in PREFIXES.items() if not parts[part]]
    if missing:
        raise refused(f"{name} holds nothing named {' or '.join(f'{prefix}*' for prefix in missing)}")
    return parts


def refused(found: str) -> PocketError:
    """What is wrong with a file, with what it should be."""
    return PocketError(
        found,
        "`weights` must be a file that Save Checkpoint wrote from the MODEL, CLIP and VAE of Pocket Models",
        "Choose another file; load other checkpoints with Load Checkpoint",
    )
