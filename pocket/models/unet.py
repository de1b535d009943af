"""The pocket UNet in plain PyTorch: the names, shapes and arithmetic of ComfyUI's SD1.x UNet of the same settings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT, HEADS = 768, 4
WIDTHS = (64, 128, 128)  # of the levels, at 1, 1/2 and 1/4 of the latent's side
# The same network for the host's constructor: one residual block a level, and words are read at 1/2 alone, so that what a
# word does has a place in the picture.
HOST_CONFIG = {
    **{"image_size": 16, "use_spatial_transformer": True, "legacy": False, "in_channels": 4, "out_channels": 4},
    **{"model_channels": 64, "num_res_blocks": [1, 1, 1], "channel_mult": [1, 2, 2], "transformer_depth": [0, 1, 0]},
    **{"transformer_depth_output": [0, 0, 1, 1, 0, 0], "transformer_depth_middle": -1, "context_dim": CONTEXT},
    **{"use_linear_in_transformer": False, "use_temporal_resblock": False, "use_temporal_attention": False},
    "adm_in_channels": None,
}


class ResBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int, n_time: int):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(n_time, n_out))
        last = nn.Conv2d(n_out, n_out, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, n_out), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    def __init__(self, width: int, context: int):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = (
            t.view(batch, -1, HEADS, width // HEADS).transpose(1, 2)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        # Written out: at so few tokens it trains faster on a processor than the fused kernel's backward pass.
        scores = q @ k.transpose(-1, -2) * (width // HEADS) ** -0.5
        out = (scores if bias is None else scores + bias).softmax(dim=-1).to(v.dtype) @ v
        return self.to_out(out.transpose(1, 2).reshape(batch, tokens, width))


class GEGLU(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attn1, self.ff = CrossAttention(width, width), FeedForward(width)
        self.attn2 = CrossAttention(width, CONTEXT)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        x = x + self.attn2(self.norm2(x), context, bias)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width)])
        self.proj_out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        batch, width, rows, columns = x.shape
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, context, bias)
        h = h.transpose(1, 2).reshape(batch, width, rows, columns)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class UNet(nn.Module):
    """Noisy latents (B, 4, H, W) with H and W multiples of 4, timesteps (B,), states of words (B, L, 768) -> noise."""

    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        n = 4 * a
        self.time_embed = nn.Sequential(nn.Linear(a, n), nn.SiLU(), nn.Linear(n, n))
        groups = [[nn.Conv2d(4, a, 3, padding=1)], [ResBlock(a, a, n)], [Downsample(a)]]
        groups += [[ResBlock(a, b, n), SpatialTransformer(b)], [Downsample(b)], [ResBlock(b, c, n)]]
        self.input_blocks = nn.ModuleList(nn.ModuleList(group) for group in groups)
        self.middle_block = nn.ModuleList([ResBlock(c, c, n)])
        groups = [[ResBlock(c + c, c, n)], [ResBlock(c + b, c, n), Upsample(c)]]
        groups += [
            [ResBlock(c + b, b, n), SpatialTransformer(b)],
            [ResBlock(b + a, b, n), SpatialTransformer(b), Upsample(b)],
        ]
        groups += [[ResBlock(b + a, a, n)], [ResBlock(a + a, a, n)]]
        self.output_blocks = nn.ModuleList(nn.ModuleList(group) for group in groups)
        self.out = nn.Sequential(nn.GroupNorm(32, a), nn.SiLU(), nn.Conv2d(a, 4, 3, padding=1))
        nn.init.zeros_(self.out[2].weight)
        nn.init.zeros_(self.out[2].bias)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        time = self.time_embed(timestep_embedding(timesteps, WIDTHS[0]))

        def run(group: nn.ModuleList, h: Tensor) -> Tensor:
            for module in group:
                if isinstance(module, ResBlock):
                    h = module(h, time)
                elif isinstance(module, SpatialTransformer):
                    h = module(h, context, bias)
                else:
                    h = module(h)
            return h

        skips, h = [], x
        for group in self.input_blocks:
            h = run(group, h)
            skips.append(h)
        h = run(self.middle_block, h)
        for group in self.output_blocks:
            h = run(group, torch.cat([h, skips.pop()], dim=1))
        return self.out(h)


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of geometrically spaced frequencies (B, width)."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, device=timesteps.device) / (width // 2))
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
