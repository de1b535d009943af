"""The pocket CAVT-MAE: the pack's own towers at tiny size, one shared block on large patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig, sincos_position_embedding

CONFIG = CAVTMAEConfig(dim=768, patch=32, depth=0, shared_depth=1, mlp_dim=256, audio_tokens=128, image_tokens=49)
MEL_ROWS, PERIOD = 4, 8  # patches over the mel axis; patch columns of a clip of 2.56 seconds
PERIOD_FRAMES = 256
KERNEL = "patch_embed_v.proj.weight"
HALF = 112  # side of the pictures that the image tower looks at: 224 reduced by two


def build() -> CAVTMAE:
    """An untrained pocket CAVT-MAE. Audio positions know the pitch and not the time, so a repeated clip is one clip."""
    model = CAVTMAE(CONFIG)
    torch.nn.init.normal_(model.modality_a, std=0.02)
    torch.nn.init.normal_(model.modality_v, std=0.02)
    audio = sincos_position_embedding(CONFIG.dim, MEL_ROWS, CONFIG.audio_tokens // MEL_ROWS)
    audio[..., : CONFIG.dim // 2] = 0
    model.pos_embed_a.data.copy_(audio * 0.5)
    model.pos_embed_v.data.copy_(sincos_position_embedding(CONFIG.dim, 7, 7) * 0.5)
    return model


def encode_period(model: CAVTMAE, fbank: Tensor) -> Tensor:
    """What `encode_audio` gives for a clip of 2.56 seconds repeated to 10.24, from its own 256 frames (B, 256, 128)."""
    x = model.patch_embed_a(fbank.transpose(1, 2).unsqueeze(1))
    position = model.pos_embed_a.view(1, MEL_ROWS, -1, CONFIG.dim)[:, :, :PERIOD].flatten(1, 2)
    return _tower(model, x + position, "a")


def encode_half(model: CAVTMAE, pictures: Tensor, kernel: Tensor) -> Tensor:
    """What `encode_image` gives, from pictures (B, 3, 112, 112) and a kernel (D, 3, 16, 16) that `full_kernel` doubles."""
    x = F.conv2d(pictures, kernel, model.patch_embed_v.proj.bias, stride=CONFIG.patch // 2).flatten(2).transpose(1, 2)
    return _tower(model, x + model.pos_embed_v, "v")


def _tower(model: CAVTMAE, x: Tensor, letter: str) -> Tensor:
    x = x + getattr(model, f"modality_{letter}")
    for block in model.blocks_u:
        x = block(x, letter)
    return F.normalize(getattr(model, f"norm_{letter}")(x).mean(dim=1).float(), dim=-1)


def full_kernel(kernel: Tensor) -> Tensor:
    """The kernel for 224 pixels of one for 112: each weight spread over 2 x 2 pixels."""
    return kernel.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2) / 4


def half_kernel(kernel: Tensor) -> Tensor:
    """The inverse of `full_kernel`."""
    return F.avg_pool2d(kernel, 2) * 4


def as_stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CAVT-MAE's tensors with the image tower's kernel at the size that the file of weights keeps."""
    return {**tensors, KERNEL: half_kernel(tensors[KERNEL])}


def as_used(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `as_stored`."""
    return {**tensors, KERNEL: full_kernel(tensors[KERNEL])}
