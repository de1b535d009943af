"""ImageBind's audio trunk (Girdhar et al., CVPR 2023): a sound in the space of OpenCLIP ViT-H/14's pictures and texts.

    picture (N, 1, 128, 204) -> 12 x 19 overlapping patches -> norm -> class token, positions -> 12 blocks
    -> norm -> class token -> projection -> unit length times the scale; the mean over a sound's pictures

Written from a description of the published model; names of modules are the pack's own, `imagebind_files` knows the
published ones. The published weights are under CC BY-NC-SA 4.0: not for commercial use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio.fbank import MEL_BINS, SAMPLE_RATE
from .cavt_mae import MLP, TORCH_OPERATIONS
from .imagebind_audio import FRAMES, mel_pictures
from .self_test import require_two

KERNEL, STRIDE = 16, 10  # of the patches, in mel channels and frames
ROWS, COLUMNS = (MEL_BINS - KERNEL) // STRIDE + 1, (FRAMES - KERNEL) // STRIDE + 1  # 12 x 19 patches
TOKENS = 1 + ROWS * COLUMNS
HEAD_DIM = 64
STEM_EPS, EPS = 1e-5, 1e-6  # of the norm after the patches, and of all others
DISTINCT = 1e-4  # least distance of two features, unless the weights are empty
LOG_SCALE, MOST_SCALE = math.log(20.0), 100.0


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of the audio trunk; the defaults are those of imagebind_huge."""

    width: int = 768  # of the tokens
    depth: int = 12  # blocks
    mlp_dim: int = 3072  # hidden width of a block's MLP
    dim: int = 1024  # of the embedding
    log_scale: float = LOG_SCALE  # logarithm of an embedding's length, a constant of the file


class Attention(nn.Module):
    """Multi-head self-attention in which every query also sees one learnt key and value."""

    def __init__(self, width: int, operations, **factory):
        super().__init__()
        self.in_proj = operations.Linear(width, 3 * width, **factory)
        self.bias_k, self.bias_v = (_fixed(torch.zeros(1, 1, width, **factory)) for _ in range(2))
        self.out_proj = operations.Linear(width, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        # Parameters of a module with children stay behind when a host loads a model in part.
        k, v = (
            torch.cat([t, extra.to(t).expand(batch, 1, width)], 1) for t, extra in ((k, self.bias_k), (v, self.bias_v))
        )
        q, k, v = (t.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for t in (q, k, v))  # (B, heads, tokens, 64)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(x.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Pre-norm block."""

    def __init__(self, width: int, hidden: int, operations, **factory):
        super().__init__()
        self.norm_1 = operations.LayerNorm(width, eps=EPS, **factory)
        self.attn = Attention(width, operations, **factory)
        self.norm_2 = operations.LayerNorm(width, eps=EPS, **factory)
        self.mlp = MLP(width, hidden, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Stem(nn.Module):
    """Overlapping patches, row by row (mel outer, time inner), normalised."""

    def __init__(self, width: int, operations, **factory):
        super().__init__()
        self.proj = operations.Conv2d(1, width, kernel_size=KERNEL, stride=STRIDE, bias=False, **factory)
        self.norm = operations.LayerNorm(width, eps=STEM_EPS, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).flatten(2).transpose(1, 2).contiguous())


class ImageBindAudio(nn.Module):
    """The audio trunk with its head. Build one with `from_tensors`."""

    def __init__(self, config: ImageBindConfig, *, operations=TORCH_OPERATIONS, dtype=None, device=None):
        super().__init__()
        self.config = config
        factory = {"dtype": dtype, "device": device}
        self.stem = Stem(config.width, operations, **factory)
        self.cls_token = _fixed(torch.zeros(1, 1, config.width, **factory))
        self.pos_embed = _fixed(torch.zeros(1, TOKENS, config.width, **factory))
        blocks = [Block(config.width, config.mlp_dim, operations, **factory) for _ in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = operations.LayerNorm(config.width, eps=EPS, **factory)
        self.projection = operations.Linear(config.width, config.dim, bias=False, **factory)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised mel pictures (N, 1, 128, 204), float -> raw embeddings (N, D), float32."""
        if tuple(pictures.shape[1:]) != (1, MEL_BINS, FRAMES):
            raise ValueError(f"pictures are (N, 1, {MEL_BINS}, {FRAMES}) but got {tuple(pictures.shape)}")
        x = self.stem(pictures)
        x = torch.cat([self.cls_token.to(x).expand(x.shape[0], 1, -1), x], dim=1) + self.pos_embed.to(x)
        for block in self.blocks:
            x = block(x)
        return self.projection(self.norm(x)[:, 0]).float()

    def embed(self, raw: Tensor) -> Tensor:
        """Raw embeddings (..., W, D) of a sound's pictures -> the published embedding (..., D), at most `scale` long."""
        return (self.scale * F.normalize(raw.float(), dim=-1)).mean(dim=-2)

    @property
    def scale(self) -> float:
        """The length of one picture's embedding: 20 as published."""
        return min(math.exp(self.config.log_scale), MOST_SCALE)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], config: ImageBindConfig, **options) -> ImageBindAudio:
        """A trunk of `config` with these tensors, under the pack's names, as `imagebind_files.read_trunk` gives both.

        `options` go to the constructor (operations, dtype, device).
        """
        model = cls(config, **options)
        dtype = options.get("dtype")
        if dtype is not None:  # layers that get their weights now would keep the file's type
            tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        model.load_state_dict(tensors)
        return model.eval().requires_grad_(False)


class ImageBindEncoder:
    """ImageBind behind the interface of `encoders.AudioEncoder`."""

    has_images = False

    def __init__(self, model: ImageBindAudio, name: str = "ImageBind"):
        self.model, self.name, self.dim = model, name, model.config.dim

    @torch.inference_mode()
    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """(B, C, T) at any rate (Hz) -> unit vectors (B, D), float32. Policies are those of `mel_pictures`."""
        pictures = mel_pictures(waveform, sample_rate, **policies)
        weight = self.model.cls_token
        raw = self.model(pictures.flatten(0, 1).to(weight.device, weight.dtype)).unflatten(0, pictures.shape[:2])
        return F.normalize(self.model.embed(raw), dim=-1).cpu()


def require_hearing(encode: Callable[[Tensor, int], Tensor]) -> None:
    """Raise `CheckpointError` if `encode`, which is as `AudioEncoder.encode`, hears no difference between two unlike noises."""
    generator = torch.Generator().manual_seed(0)
    noises = torch.randn(2, 1, 2 * SAMPLE_RATE, generator=generator).clamp(-3, 3) / 3
    noises[1] = 0.3 * noises[1].diff(dim=-1, prepend=noises[1][..., :1])  # brighter
    require_two(encode(noises, SAMPLE_RATE), "hears", "sounds", apart=DISTINCT)


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
