"""The pocket text encoder: one layer of CLIP-L's shapes (width 768), with the names that ComfyUI's CLIPTextModel uses.

A prompt is always 77 tokens: start, words, end, and end tokens as padding. What stands behind the first end token is set
to zero, as the host does for text encoders with `zero_out_masked`, so that the words themselves must carry what a prompt
says. Training computes as many columns as its captions need and one empty one, and counts that as all the others: nothing
differs from 77.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WIDTH, HEADS, INNER = 768, 12, 256
HEAD = WIDTH // HEADS
LENGTH = 77  # columns of a prompt, as everywhere in SD1.x
WORDS = 24  # columns of the longest caption in training, start and end included


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            p(x).view(batch, length, HEADS, HEAD).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        # Written out: at so few tokens it trains faster on a processor than the fused kernel's backward pass.
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(-1, -2) * HEAD**-0.5).masked_fill(later, float("-inf"))
        x = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.out_proj(x.transpose(1, 2).reshape(batch, length, WIDTH))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))  # quick GELU, as in CLIP-L


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm1, self.self_attn = nn.LayerNorm(WIDTH), Attention()
        self.layer_norm2, self.mlp = nn.LayerNorm(WIDTH), MLP()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """Rows of words (B, length, 768) -> states (B, length, 768). Holds the rows of `vocabulary` words only."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.token_embedding = nn.Parameter(torch.randn(vocabulary, WIDTH) * 0.03)  # row 0: start, row 1: end
        self.position_embedding = nn.Parameter(torch.randn(WORDS, WIDTH) * 0.01)
        self.layer = Layer()
        self.final_layer_norm = nn.LayerNorm(WIDTH)

    def positions(self, length: int = LENGTH) -> Tensor:
        """Positions (length, 768); columns that no caption of training reached have that of the last one."""
        last = self.position_embedding[-1:].expand(max(0, length - WORDS), -1)
        return torch.cat([self.position_embedding[:length], last])

    def forward(self, rows: Tensor, ends: Tensor) -> Tensor:
        """States of rows (B, L, 768) without positions; zero behind the first end tokens, at columns `ends` (B,)."""
        states = self.final_layer_norm(self.layer(rows + self.positions(rows.shape[1])))
        return states * (torch.arange(rows.shape[1], device=rows.device) <= ends[:, None]).unsqueeze(-1)

    def host_state_dict(self) -> dict[str, Tensor]:
        """Tensors under the names of ComfyUI's text model, except for the table of words."""
        tensors = {f"encoder.layers.0.{name}": t for name, t in self.layer.state_dict().items()}
        tensors |= {f"final_layer_norm.{name}": t for name, t in self.final_layer_norm.state_dict().items()}
        tensors["embeddings.position_embedding.weight"] = self.positions().detach()
        return tensors

    @classmethod
    def from_host_state_dict(cls, tensors: dict[str, Tensor]) -> TextEncoder:
        """The encoder of `host_state_dict` and of its `rows` of words (n, 768)."""
        encoder = cls(len(tensors["rows"]))
        own = {"token_embedding": tensors["rows"]}
        own["position_embedding"] = tensors["embeddings.position_embedding.weight"][:WORDS]
        own |= {n.replace("encoder.layers.0.", "layer."): t for n, t in tensors.items() if n.startswith("encoder.")}
        own |= {n: t for n, t in tensors.items() if n.startswith("final_layer_norm.")}
        encoder.load_state_dict(own)
        return encoder


def key_bias(columns: int = WORDS + 1, device=None) -> Tensor:
    """(columns,) logits that make the last, empty column count as all those of 77 that are left out."""
    bias = torch.zeros(columns, device=device)
    bias[-1] = math.log(LENGTH + 1 - columns)
    return bias
