"""BEATs (Chen et al., ICML 2023), fine-tuned on AudioSet: the transformer that AudioToken hears with, and its classifier.

    sound (B, N) at 16 kHz -> log-mel (B, F, 128) -> patches (B, T, 512) -> 12 post-norm layers -> tokens (B, T, 768)

T = 8 (F // 16), time outer and mel inner. Names of modules and parameters are those of the published file, but for what
`files` folds together: the weight norm of the positional convolution, and the one table of relative positions that every
layer of the file repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...audio.fbank import MEL_BINS, kaldi_fbank

INT16 = 2.0**15  # Kaldi's waveforms have the scale of 16-bit samples
FBANK_MEAN, FBANK_SPREAD = 15.41663, 2 * 6.55582  # the published code divides by twice the standard deviation
PATCH = 16  # side of a square patch, in frames and mel channels
LAYERS = 12
READ = (3, 7, 11)  # layers whose outputs AudioToken reads, counted from 0
KERNEL, GROUPS = 128, 16  # of the positional convolution
BUCKETS, FARTHEST = 320, 800  # relative positions, and the distance in tokens at which all are alike
GATES = 8  # values that a query is mapped to for its gate: two groups of four
DEEP_NORM = (2 * LAYERS) ** 0.25  # of the residual stream in each layer
TORCH_OPERATIONS = SimpleNamespace(
    Linear=nn.Linear, LayerNorm=nn.LayerNorm, Conv1d=nn.Conv1d, Conv2d=nn.Conv2d, Embedding=nn.Embedding
)


@dataclass(frozen=True)
class BEATsConfig:
    """Sizes; the defaults are those of every published BEATs. How it computes is fixed: see `files.PUBLISHED`."""

    dim: int = 768  # width of the tokens
    mlp_dim: int = 3072  # hidden width of a layer's MLP
    heads: int = 12  # of attention
    patch_dim: int = 512  # width of a patch before it is brought to `dim`
    classes: int = 527  # of AudioSet


def beats_input(sound: Tensor) -> Tensor:
    """Mono sounds (B, N) at 16 kHz, full scale 1 -> normalised log-mel (B, F, 128), F = 1 + (N - 400) // 160.

    Kaldi's own defaults with 128 channels: povey windows of 25 ms each 10 ms. Loudness stays in it; silence is -2.391693.
    """
    return (kaldi_fbank(sound * INT16, window="povey") - FBANK_MEAN) / FBANK_SPREAD


def relative_buckets(tokens: int) -> Tensor:
    """Which row of the table of relative positions tokens i, j use: (tokens, tokens), int64, below `BUCKETS`.

    Half of the rows are for j > i. Of each half, the first half is for single distances, the rest grows by logarithm.
    """
    places = torch.arange(tokens)
    offset = places[None, :] - places[:, None]
    half, exact = BUCKETS // 2, BUCKETS // 4
    distance = offset.abs()
    grown = torch.log(distance.clamp_min(1).float() / exact) / math.log(FARTHEST / exact) * (half - exact)
    far = (exact + grown.long()).clamp_max(half - 1)
    return (offset > 0).long() * half + torch.where(distance < exact, distance, far)


class Attention(nn.Module):
    """Self-attention with relative positions, which a gate of each query makes stronger or weaker."""

    def __init__(self, config: BEATsConfig, operations, **factory):
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            operations.Linear(config.dim, config.dim, **factory) for _ in range(4)
        )
        self.grep_linear = operations.Linear(config.dim // config.heads, GATES, **factory)
        self.grep_a = nn.Parameter(torch.ones(1, config.heads, 1, 1, **factory), requires_grad=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, D); bias (heads, T, T) -> (B, T, D)."""
        batch, tokens, dim = x.shape
        q, k, v = (
            project(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # each (B, heads, T, D / heads)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.gate(q) * bias)
        return self.out_proj(x.transpose(1, 2).reshape(batch, tokens, dim))

    def gate(self, q: Tensor) -> Tensor:
        """Unscaled queries (B, heads, T, D / heads) -> factors of the bias (B, heads, T, 1)."""
        sums = self.grep_linear(q).unflatten(-1, (2, GATES // 2)).sum(-1)
        update, reset = sums.sigmoid().chunk(2, dim=-1)
        # A parameter of a module with children stays behind when a host loads a model in part.
        return update * (reset * self.grep_a.to(q) - 1.0) + 2.0


class Layer(nn.Module):
    """Post-norm layer: attention and an MLP, each added to a residual stream that DeepNorm makes larger."""

    def __init__(self, config: BEATsConfig, operations, **factory):
        super().__init__()
        self.self_attn = Attention(config, operations, **factory)
        self.self_attn_layer_norm = operations.LayerNorm(config.dim, eps=1e-5, **factory)
        self.fc1 = operations.Linear(config.dim, config.mlp_dim, **factory)
        self.fc2 = operations.Linear(config.mlp_dim, config.dim, **factory)
        self.final_layer_norm = operations.LayerNorm(config.dim, eps=1e-5, **factory)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(DEEP_NORM * x + self.self_attn(x, bias))
        return self.final_layer_norm(DEEP_NORM * x + self.fc2(F.gelu(self.fc1(x))))


class Encoder(nn.Module):
    """Positions and layers."""

    def __init__(self, config: BEATsConfig, operations, **factory):
        super().__init__()
        convolution = operations.Conv1d(config.dim, config.dim, KERNEL, padding=KERNEL // 2, groups=GROUPS, **factory)
        self.pos_conv = nn.Sequential(convolution)
        self.relative_attention_bias = operations.Embedding(BUCKETS, config.heads, **factory)
        self.layer_norm = operations.LayerNorm(config.dim, eps=1e-5, **factory)
        self.layers = nn.ModuleList(Layer(config, operations, **factory) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, T, D) -> the output of each layer, (B, T, D)."""
        # An even kernel gives one column too many, the last.
        x = x + F.gelu(self.pos_conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
        x = self.layer_norm(x)
        buckets = relative_buckets(x.shape[1]).to(x.device)
        bias = self.relative_attention_bias(buckets).to(x).permute(2, 0, 1)  # (heads, T, T)
        outputs = []
        for layer in self.layers:
            x = layer(x, bias)
            outputs.append(x)
        return outputs


class BEATs(nn.Module):
    """The transformer and its AudioSet classifier."""

    def __init__(self, config: BEATsConfig, *, operations=TORCH_OPERATIONS, dtype=None, device=None):
        super().__init__()
        self.config = config
        factory = {"dtype": dtype, "device": device}
        self.patch_embedding = operations.Conv2d(1, config.patch_dim, PATCH, stride=PATCH, bias=False, **factory)
        self.layer_norm = operations.LayerNorm(config.patch_dim, eps=1e-5, **factory)
        self.post_extract_proj = operations.Linear(config.patch_dim, config.dim, **factory)
        self.encoder = Encoder(config, operations, **factory)
        self.predictor = operations.Linear(config.dim, config.classes, **factory)

    def forward(self, fbank: Tensor) -> Tensor:
        """Log-mel (B, F, 128) of `beats_input`, F >= 16 -> features (B, T, 3 D): the layers `READ`, one after the other."""
        if fbank.ndim != 3 or fbank.shape[1] < PATCH or fbank.shape[2] != MEL_BINS:
            raise ValueError(f"BEATs takes (B, {PATCH} or more, {MEL_BINS}) but got {tuple(fbank.shape)}")
        patches = self.patch_embedding(fbank.unsqueeze(1)).flatten(2).transpose(1, 2)  # (B, T, 512)
        outputs = self.encoder(self.post_extract_proj(self.layer_norm(patches)))
        return torch.cat([outputs[layer] for layer in READ], dim=-1)

    def classify(self, features: Tensor) -> Tensor:
        """Features of `forward` -> the probability of each class of AudioSet, apart from the others: (B, classes), float32."""
        logits = self.predictor(features[..., -self.config.dim :]).mean(dim=1)
        return logits.float().sigmoid()
