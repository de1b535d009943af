"""AudioToken's network: BEATs' features, an MLP, and factor graph attention (Schwartz et al., CVPR 2019) over time.

    features f (T, 3 D) -> h = fc2(gelu(fc1(f))) (T, width) -> a = softmax over the tokens -> row = sum_t a_t h_t (width,)

The row is what stands in CLIP's token table for a word; nothing scales it afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .beats import TORCH_OPERATIONS, BEATs, BEATsConfig

KEPT = 0.5  # share of values that the published code's dropout keeps


class Unary(nn.Module):
    """What each token says by itself."""

    def __init__(self, width: int, per_token):
        super().__init__()
        self.embed, self.feature_reduce = per_token(width, width), per_token(width, 1)

    def forward(self, h: Tensor, dropout: Tensor | None) -> Tensor:
        """(B, width, T) -> (B, 1, T)."""
        embedded = F.relu(self.embed(h))
        return self.feature_reduce(embedded if dropout is None else embedded * dropout)


class Likeness(nn.Module):
    """How much each token is like all of them: the mean of cos(X_t, Y_j) over j."""

    def __init__(self, width: int, per_token):
        super().__init__()
        self.embed_X, self.embed_Y = per_token(width, width), per_token(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """(B, width, T) -> (B, 1, T)."""
        x, y = (F.normalize(embed(h), dim=1) for embed in (self.embed_X, self.embed_Y))
        return (x * y.mean(dim=2, keepdim=True)).sum(dim=1, keepdim=True)


class FactorGraphAttention(nn.Module):
    """How much each token counts, by both potentials together."""

    def __init__(self, width: int, operations, **factory):
        super().__init__()

        def per_token(n_in: int, n_out: int, bias: bool = True):
            return operations.Conv1d(n_in, n_out, 1, bias=bias, **factory)

        self.un_models = nn.ModuleList([Unary(width, per_token)])
        self.pp_models = nn.ModuleList([Likeness(width, per_token)])
        self.reduce_potentials = nn.ModuleList([per_token(2, 1, bias=False)])

    def forward(self, h: Tensor, dropout: Tensor | None = None) -> Tensor:
        """Tokens (B, width, T) -> weights (B, T) that sum to 1. `dropout`: `dropout_mask`."""
        potentials = torch.cat([self.un_models[0](h, dropout), self.pp_models[0](h)], dim=1)  # (B, 2, T)
        return self.reduce_potentials[0](potentials).squeeze(1).softmax(dim=-1)


class Embedder(nn.Module):
    """From BEATs' features to the row."""

    def __init__(self, features: int, width: int, *, operations=TORCH_OPERATIONS, dtype=None, device=None):
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.fc1 = operations.Linear(features, features, **factory)
        self.fc2 = operations.Linear(features, width, **factory)
        self.fga = FactorGraphAttention(width, operations, **factory)

    def forward(self, features: Tensor, dropout: Tensor | None = None) -> Tensor:
        """(B, T, 3 D) -> rows (B, width)."""
        h = self.fc2(F.gelu(self.fc1(features)))
        weights = self.fga(h.transpose(1, 2), dropout)
        return (weights.unsqueeze(1) @ h).squeeze(1)


class AudioTokenNet(nn.Module):
    """BEATs and the embedder as one model, so that whoever owns it loads them together."""

    def __init__(self, config: BEATsConfig, width: int = 768, **options):
        super().__init__()
        self.width = width
        self.beats = BEATs(config, **options)
        self.embedder = Embedder(3 * config.dim, width, **options)

    def forward(self, fbank: Tensor, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Log-mel (B, F, 128) of `beats_input` -> rows (B, width), class probabilities (B, classes); float32.

        `seed`: of the published code's dropout, the same for each of the B; None leaves it out.
        """
        features = self.beats(fbank)
        mask = None if seed is None else dropout_mask(self.width, features.shape[1], seed).to(features)
        return self.embedder(features, mask).float(), self.beats.classify(features)


def dropout_mask(width: int, tokens: int, seed: int) -> Tensor:
    """What the published code's dropout multiplies by, (1, width, tokens): 0 or 2.

    Its `F.dropout` is on when a word is made, too. This is the draw that it makes on a processor right after
    `torch.manual_seed(seed)`.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(1, width, tokens).bernoulli_(KEPT, generator=generator) / KEPT
