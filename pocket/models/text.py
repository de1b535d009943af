"""The pocket text encoder: one layer of CLIP-L's shapes (width 768), with the names that ComfyUI's CLIPTextModel uses.

A prompt is always 77 tokens: start, words, end, and end tokens as padding. From column `WORDS` on, padding is made to
look at nothing but the start token, so all those columns carry one and the same state, whatever the prompt is.
Training therefore computes `WORDS` + 1 columns and counts the last one `PADS` times, and nothing differs from 77.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, INNER = 768, 12, 256
HEAD = WIDTH // HEADS
LENGTH = 77  # columns of a prompt, as everywhere in SD1.x
WORDS = 24  # columns that can carry words, start and end included
PADS = LENGTH - WORDS  # equal columns behind them
# Two coordinates of a state and one channel of each head are kept for the padding's look at the start token.
PAD_AXIS, START_AXIS = WIDTH - 2, WIDTH - 1
MARK, GAIN = 40.0, 1.5  # how strongly padding and start are marked, and how sharply one looks at the other


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
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
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
        self.position_embedding = nn.Parameter(torch.randn(WORDS + 1, WIDTH) * 0.01)
        self.layer = Layer()
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.keep_marks()

    @torch.no_grad()
    def keep_marks(self) -> None:
        """Put the kept coordinates back where training may have moved them; to be called after every step."""
        axes = [PAD_AXIS, START_AXIS]
        self.token_embedding[:, axes] = 0
        self.token_embedding[0, START_AXIS] = MARK
        self.position_embedding[:, axes] = 0
        self.position_embedding[WORDS] = 0
        self.position_embedding[WORDS, PAD_AXIS] = MARK
        attention, norm = self.layer.self_attn, self.layer.layer_norm1
        norm.weight[axes], norm.bias[axes] = 1.0, 0.0
        kept = torch.arange(HEAD - 1, WIDTH, HEAD)
        for projection, axis in ((attention.q_proj, PAD_AXIS), (attention.k_proj, START_AXIS)):
            projection.weight[:, axes] = 0
            projection.weight[kept] = 0
            projection.weight[kept, axis] = GAIN
            projection.bias[kept] = 0

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of at most `WORDS` + 1 columns, without positions."""
        return self.final_layer_norm(self.layer(rows + self.position_embedding[: rows.shape[1]]))

    def host_state_dict(self) -> dict[str, Tensor]:
        """Tensors under the names of ComfyUI's text model, except for the table of words."""
        tensors = {f"encoder.layers.0.{name}": t for name, t in self.layer.state_dict().items()}
        tensors |= {f"final_layer_norm.{name}": t for name, t in self.final_layer_norm.state_dict().items()}
        position = self.position_embedding.detach()
        tensors["embeddings.position_embedding.weight"] = torch.cat([position, position[-1:].expand(PADS - 1, -1)])
        return tensors


def key_bias(device=None) -> Tensor:
    """(`WORDS` + 1,) logits that make the last column count as `PADS` equal ones."""
    bias = torch.zeros(WORDS + 1, device=device)
    bias[-1] = math.log(PADS)
    return bias
