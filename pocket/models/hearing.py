"""The pocket CAVT-MAE: the pack's own towers at tiny size, one shared block on large patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.align.cavt_mae import (
    CAVTMAE,
    CAVTMAEConfig,
    check_spectrograms,
    in_pieces,
    sincos_position_embedding,
)
from ...aai_models.audio.fbank import FBANK_STD

CONFIG = CAVTMAEConfig(dim=768, patch=32, depth=0, shared_depth=1, mlp_dim=256, audio_tokens=128, image_tokens=49)
MEL_ROWS, PERIOD = 4, 8  # patches over the mel axis; patch columns of a clip of 2.56 seconds
PERIOD_FRAMES = 256
STEP_FRAMES = 128  # from one heard part to the next: whole patches
EMPTY = -100.0  # logarithm of a power below all that is heard
KERNEL = "patch_embed_v.proj.weight"
HALF = 112  # side of the pictures that the image tower looks at: 224 reduced by two


class PocketCAVTMAE(CAVTMAE):
    """Hears 2.56 seconds at a time, as long as the clips that it learned from, so that a longer sound is not a strange one."""

    def pool_audio(self, fbank: Tensor) -> Tensor:
        """Spectrograms (B, 1024, 128) -> (B, D): the mean over parts that begin every 1.28 seconds.

        A part counts by its amplitude, so silence around a sound changes little, and padding nothing. A clip of 2.56 seconds
        that is repeated is heard at once, to the last bit as in version 0.1.0: trainings that began there go on.
        """
        check_spectrograms(fbank)
        repeated = _repeats(fbank)
        pooled = torch.empty(len(fbank), self.config.dim, device=fbank.device)
        if repeated.any():
            pooled[repeated] = super().pool_audio(fbank[repeated]).float()
        if not repeated.all():
            pooled[~repeated] = self._pool_parts(fbank[~repeated]).float()
        return pooled

    def _pool_parts(self, fbank: Tensor) -> Tensor:
        parts = fbank.unfold(1, PERIOD_FRAMES, STEP_FRAMES).transpose(2, 3)  # (B, P, 256, 128)
        # Frames that are alike in every band are digital silence, or padding, whose value is that of a loud sound.
        empty = (parts.amax(3) == parts.amin(3)).unsqueeze(3)
        power = (FBANK_STD * parts.float()).masked_fill(empty, EMPTY).logsumexp((2, 3))
        share = (power / 2).softmax(1)
        pooled = in_pieces(lambda x: pool_period(self, x), parts.flatten(0, 1), MEL_ROWS * PERIOD)
        return (share[..., None] * pooled.unflatten(0, share.shape)).sum(1)


def _repeats(fbank: Tensor) -> Tensor:
    """Which spectrograms (B, 1024, 128) repeat one clip of 2.56 seconds, (B,) bool."""
    return (fbank[:, PERIOD_FRAMES:] == fbank[:, :-PERIOD_FRAMES]).all(2).all(1)


def build() -> PocketCAVTMAE:
    """An untrained pocket CAVT-MAE. Audio positions know the pitch and not the time, so a repeated clip is one clip."""
    model = PocketCAVTMAE(CONFIG)
    torch.nn.init.normal_(model.modality_a, std=0.02)
    torch.nn.init.normal_(model.modality_v, std=0.02)
    audio = sincos_position_embedding(CONFIG.dim, MEL_ROWS, CONFIG.audio_tokens // MEL_ROWS)
    audio[..., : CONFIG.dim // 2] = 0
    model.pos_embed_a.data.copy_(audio * 0.5)
    model.pos_embed_v.data.copy_(sincos_position_embedding(CONFIG.dim, 7, 7) * 0.5)
    return model


def encode_period(model: CAVTMAE, fbank: Tensor, kept: Tensor | None = None) -> Tensor:
    """What `encode_audio` gives for a clip of 2.56 seconds repeated to 10.24, from its own 256 frames (B, 256, 128).

    `kept` (B, K): numbers of the patches that are heard; all without it.
    """
    return F.normalize(pool_period(model, fbank, kept), dim=-1)


def pool_period(model: CAVTMAE, fbank: Tensor, kept: Tensor | None = None) -> Tensor:
    """`encode_period` before it is brought to unit length."""
    x = model.patch_embed_a(fbank.transpose(1, 2).unsqueeze(1))
    position = model.pos_embed_a.to(x).view(1, MEL_ROWS, -1, CONFIG.dim)[:, :, :PERIOD].flatten(1, 2)
    return _pool(model, x + position, "a", kept)


def encode_half(model: CAVTMAE, pictures: Tensor, kernel: Tensor, kept: Tensor | None = None) -> Tensor:
    """What `encode_image` gives, from pictures (B, 3, 112, 112) and a kernel (D, 3, 16, 16) that `full_kernel` doubles.

    `kept` (B, K): numbers of the patches that are seen; all without it.
    """
    x = F.conv2d(pictures, kernel, model.patch_embed_v.proj.bias, stride=CONFIG.patch // 2).flatten(2).transpose(1, 2)
    return F.normalize(_pool(model, x + model.pos_embed_v, "v", kept), dim=-1)


def _pool(model: CAVTMAE, x: Tensor, letter: str, kept: Tensor | None) -> Tensor:
    """Patches (B, N, D), of each the `kept` ones -> (B, D), as `CAVTMAE.pool` does."""
    x = x + getattr(model, f"modality_{letter}").to(x)
    if kept is not None:
        x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
    return model.pool(x, letter)


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
