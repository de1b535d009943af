"""Two attention calls against explicit maps, as the equations and prompt-to-prompt's controllers write them."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.inject.attention import column_maps, inject_cross, mix_columns, scale_columns
from aai_pack.aai_models.inject.blend import local_blend, word_mask

HEADS, TOKENS, PIXELS, WIDTH = 4, 9, 25, 32


def split(x):
    return x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)


def attend(q, k, v):
    out = torch.nn.functional.scaled_dot_product_attention(split(q), split(k), split(v))
    return out.transpose(1, 2).flatten(2)


def explicit_maps(q, k):
    return (split(q) @ split(k).transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(dim=-1)


def explicit(q, k, v, q_source, k_source, matrix, window, scale):
    """The notebook's way: build both maps, edit the target's, apply it to the target's values."""
    own, theirs = explicit_maps(q, k), explicit_maps(q_source, k_source) @ matrix
    taken = matrix.ne(0).any(dim=0) & window
    edited = torch.where(taken, theirs, own) * scale
    return (edited @ split(v)).transpose(1, 2).flatten(2)


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)

    def draw(rows):
        return torch.randn(2, rows, WIDTH, generator=generator, dtype=torch.float64)

    return {"q": draw(PIXELS), "k": draw(TOKENS), "v": draw(TOKENS), "q_source": draw(PIXELS), "k_source": draw(7)}


MATRICES = {
    "refine": [(0, 0), (1, 1), (5, 2), (6, 6), (6, 8)],
    "nothing": [],
    "two onto one": [(3, 1), (3, 2), (4, 2)],
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_fused_equals_explicit(tensors, name, windowed, scaled):
    matrix = torch.zeros(7, TOKENS, dtype=torch.float64)
    for source, target in MATRICES[name]:
        matrix[source, target] = 0.5 if name == "two onto one" else 1.0
    window = torch.arange(TOKENS) % 2 == 0 if windowed else torch.ones(TOKENS, dtype=torch.bool)
    scale = torch.ones(TOKENS, dtype=torch.float64)
    if scaled:
        scale[2], scale[4] = 1.7, 0.0
    mix = mix_columns(matrix, window, scale)
    result = inject_cross(attend, **tensors, mix=mix)
    assert torch.allclose(result, explicit(**tensors, matrix=matrix, window=window, scale=scale), atol=1e-12)


def test_copies_of_a_prompt_change_nothing(tensors):
    mix = mix_columns(
        torch.eye(7, TOKENS, dtype=torch.float64), torch.ones(TOKENS, dtype=torch.bool), torch.ones(TOKENS)
    )
    once = inject_cross(attend, **tensors, mix=mix)
    repeated = {
        name: x.repeat(1, 3 if name in "kv" else 2 if name == "k_source" else 1, 1) for name, x in tensors.items()
    }
    assert torch.allclose(inject_cross(attend, **repeated, mix=mix), once, atol=1e-12)


def test_the_same_prompt_with_everything_injected_is_the_source():
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, n, WIDTH, generator=generator) for n in (PIXELS, TOKENS, TOKENS))
    other_q = torch.randn(2, PIXELS, WIDTH, generator=generator)
    mix = mix_columns(torch.eye(TOKENS), torch.ones(TOKENS, dtype=torch.bool), torch.ones(TOKENS))
    assert torch.equal(inject_cross(attend, other_q, k, v, q, k, mix), attend(q, k, v))


def test_outside_its_window_a_mix_is_neutral():
    mix = mix_columns(torch.eye(TOKENS), torch.zeros(TOKENS, dtype=torch.bool), torch.ones(TOKENS))
    assert mix.neutral
    assert not mix_columns(torch.eye(TOKENS), torch.ones(TOKENS, dtype=torch.bool), torch.ones(TOKENS)).neutral


def test_reweighting_as_prompt_to_prompt_ends_with_the_window():
    scale = torch.full((TOKENS,), 2.0)
    window = torch.arange(TOKENS) < 3
    mix = mix_columns(torch.zeros(7, TOKENS), window, scale, scale_outside=False)
    assert mix.own.tolist() == [2.0] * 3 + [1.0] * (TOKENS - 3)


def test_scaling_a_value_row_scales_its_column(tensors):
    scale = torch.ones(TOKENS, dtype=torch.float64)
    scale[3] = 0.25
    maps = explicit_maps(tensors["q"], tensors["k"]) * scale
    expected = (maps @ split(tensors["v"])).transpose(1, 2).flatten(2)
    assert torch.allclose(attend(tensors["q"], tensors["k"], scale_columns(tensors["v"], scale)), expected, atol=1e-12)


def test_column_maps_are_the_maps(tensors):
    expected = explicit_maps(tensors["q"], tensors["k"]).mean(dim=1)[..., [2, 5]].float()
    assert torch.allclose(column_maps(tensors["q"], tensors["k"], HEADS, [2, 5], TOKENS), expected, atol=1e-6)
    twice = column_maps(tensors["q"], tensors["k"].repeat(1, 2, 1), HEADS, [2, 5], TOKENS)
    assert torch.allclose(twice, expected, atol=1e-6)


def test_local_blend_is_the_source_outside_the_mask():
    maps = torch.zeros(1, 8, 8)
    maps[0, 2, 3] = 1.0
    mask = word_mask(maps, (16, 16))
    assert mask.sum() == 36  # 3 x 3 cells of 2 x 2
    edit, source = torch.randn(1, 4, 16, 16), torch.randn(1, 4, 16, 16)
    blended = local_blend(edit, source, mask)
    assert torch.equal(blended[..., ~mask[0, 0]], source[..., ~mask[0, 0]])
    assert torch.equal(blended[..., mask[0, 0]], edit[..., mask[0, 0]])


def test_no_map_no_mask():
    assert not word_mask(torch.zeros(2, 4, 4), (8, 8)).any()
