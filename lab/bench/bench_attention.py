"""An attention step with injection: two fused calls against the explicit maps of prompt-to-prompt's notebook."""

from __future__ import annotations

from functools import partial

import torch

from aai_models.inject.attention import RowEdit, inject_cross, mix_columns, own_factors
from devtools.device import current

from .timing import COLUMNS, paired, row

HEADS, WIDTH = 16, 64
SIZES = ((4096, 77), (4096, 4096))


def _split(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)


def fused(q, k, v):
    out = torch.nn.functional.scaled_dot_product_attention(_split(q), _split(k), _split(v))
    return out.transpose(1, 2).flatten(2)


def _maps(q, k):
    return (_split(q) @ _split(k).transpose(-1, -2) * WIDTH**-0.5).softmax(dim=-1)


def explicit(q, k, v, q_source, k_source, matrix):
    """Both maps, the target's columns exchanged, applied to the target's values."""
    own, theirs = _maps(q, k), _maps(q_source, k_source) @ matrix
    edited = torch.where(matrix.ne(0).any(dim=0), theirs, own)
    return (edited @ _split(v)).transpose(1, 2).flatten(2)


def explicit_self(q_source, k_source, v):
    return (_maps(q_source, k_source) @ _split(v)).transpose(1, 2).flatten(2)


def contestants(pixels: int, tokens: int, device: str):
    """(ours, the notebook's way) for one size; with as many tokens as pixels it is self-attention."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows):
        return torch.randn(1, rows, HEADS * WIDTH, generator=generator).to(device)

    q, q_source, k, k_source, v = draw(pixels), draw(pixels), draw(tokens), draw(tokens), draw(tokens)
    if tokens == pixels:
        return partial(fused, q_source, k_source, v), partial(explicit_self, q_source, k_source, v)
    matrix = torch.eye(tokens, device=device)
    matrix[:, 5] = 0.0  # a new word keeps its own map
    everywhere = torch.ones(tokens, device=device)
    edits = [RowEdit(slice(0, 1), mix_columns(matrix, everywhere.bool(), everywhere), (q_source, k_source))]
    ours = partial(inject_cross, fused, fused, q, k, v, edits, own_factors(1, tokens, edits))
    return ours, partial(explicit, q, k, v, q_source, k_source, matrix)


@torch.inference_mode()
def measure(version: str) -> dict:
    device = current()
    rows = []
    for pixels, tokens in SIZES:
        ours, peer = contestants(pixels, tokens, device)
        assert torch.allclose(ours(), peer(), atol=1e-4)
        rows.append(row(f"{pixels} x {tokens}", paired(ours, peer), "1"))
    return {
        "title": f"attention: a step with injection, {HEADS} heads, on {device}, against explicit maps",
        "columns": COLUMNS,
        "rows": rows,
        "goal": "faster than explicit maps, which also take heads x pixels x tokens more memory",
    }
