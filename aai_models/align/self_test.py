"""A check of an encoder that was just loaded: do two quite different inputs give different features?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..audio.fbank import FRAMES, MEL_BINS
from ..errors import CheckpointError
from .cavt_mae import IMAGE_SIZE

APART = 0.01414  # of two unit vectors: a cosine of 0.9999


def self_test(encode_audio, device=None, encode_image=None) -> None:
    """Raise `CheckpointError` if two quite different spectrograms give the same feature, as unloaded weights do.

    `encode_audio` maps (2, 1024, 128) to (2, D) unit vectors; `encode_image`, where there is one, (2, 3, 224, 224).
    Weights that are all 0 give no unit vectors.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, FRAMES, MEL_BINS, generator=generator)
    noise[1] = noise[1] * 0.5 + torch.linspace(2.0, -2.0, MEL_BINS)
    require_two(encode_audio(noise if device is None else noise.to(device)), "hears", "sounds")
    if encode_image is not None:
        pixels = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
        pixels[1] = pixels[1] * 0.2 + torch.linspace(2.0, -2.0, IMAGE_SIZE)
        require_two(encode_image(pixels if device is None else pixels.to(device)), "sees", "pictures")


def require_two(features: Tensor, verb: str, things: str, apart: float = APART) -> None:
    """Raise `CheckpointError` unless (2, D) are unit vectors that lie at least `apart` from each other."""
    features = features.double().cpu()
    lengths = features.norm(dim=-1)
    distance = float((features[0] - features[1]).norm())
    if bool(((lengths - 1).abs() <= 1e-2).all()) and distance >= apart:  # both also catch NaN
        return
    raise CheckpointError(
        f"This encoder {verb} no difference between two unlike {things} (cosine "
        f"{float((features[0] * features[1]).sum()):.6f}, lengths {float(lengths[0]):.3g} and {float(lengths[1]):.3g})",
        "A trained encoder gives two different directions",
        "The weights are damaged or empty: download or convert the file again",
    )
