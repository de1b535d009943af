"""Latents of a source and its edits in one batch."""

from __future__ import annotations

from torch import Tensor

from ....aai_models.errors import EditError


def branch_latent(latent: dict, branches: int) -> dict:
    """LATENT of B pictures -> of `branches` x B: each branch begins with the same latent, noise and mask."""
    samples: Tensor = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim != 4:
        raise EditError(
            f"The latent has {samples.ndim} dimensions",
            "Editing needs a latent of pictures (4 dimensions)",
            "Use Empty Latent Image",
        )
    pictures = samples.shape[0]
    noise_of = list(latent.get("batch_index", range(pictures)))
    result = {**latent, "samples": samples.repeat(branches, 1, 1, 1), "batch_index": noise_of * branches}
    mask = latent.get("noise_mask")
    if mask is not None and mask.shape[0] == pictures and pictures > 1:
        result["noise_mask"] = mask.repeat(branches, *[1] * (mask.ndim - 1))
    return result
