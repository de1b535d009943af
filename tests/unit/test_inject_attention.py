"""Two attention calls against explicit maps, as the equations and prompt-to-prompt's controllers write them."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.inject.attention import (
    RowEdit,
    column_factors,
    inject_cross,
    mix_columns,
    own_factors,
    put_rows,
    scale_columns,
    word_columns,
    word_maps,
)
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


def inject(q, k, v, q_source, k_source, mix, rows=slice(0, 2), source=attend):
    """What the host's layers call, for one edit of all rows or of some."""
    edits = [RowEdit(rows, mix, (q_source, k_source))]
    return inject_cross(attend, source, q, k, v, edits, own_factors(q.shape[0], k.shape[1], edits))


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
    result = inject(**tensors, mix=mix)
    assert torch.allclose(result, explicit(**tensors, matrix=matrix, window=window, scale=scale), atol=1e-12)


def test_copies_of_a_prompt_change_nothing(tensors):
    mix = mix_columns(
        torch.eye(7, TOKENS, dtype=torch.float64), torch.ones(TOKENS, dtype=torch.bool), torch.ones(TOKENS)
    )
    once = inject(**tensors, mix=mix)
    repeated = {
        name: x.repeat(1, 3 if name in "kv" else 2 if name == "k_source" else 1, 1) for name, x in tensors.items()
    }
    assert torch.allclose(inject(**repeated, mix=mix), once, atol=1e-12)


def test_the_same_prompt_with_everything_injected_is_the_source():
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, n, WIDTH, generator=generator) for n in (PIXELS, TOKENS, TOKENS))
    other_q = torch.randn(2, PIXELS, WIDTH, generator=generator)
    mix = mix_columns(torch.eye(TOKENS), torch.ones(TOKENS, dtype=torch.bool), torch.ones(TOKENS))
    assert torch.equal(inject(other_q, k, v, q, k, mix), attend(q, k, v))


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


def test_word_maps_are_the_maps(tensors):
    words = word_columns([[2], [5], []], TOKENS)
    expected = explicit_maps(tensors["q"], tensors["k"]).mean(dim=1)[..., [2, 5]].float()
    found = word_maps(tensors["q"], tensors["k"], HEADS, words)
    assert torch.allclose(found[..., :2], expected, atol=1e-6) and not found[..., 2].any()
    twice = word_maps(tensors["q"], tensors["k"].repeat(1, 2, 1), HEADS, words)
    assert torch.allclose(twice[..., :2], expected, atol=1e-6)
    both = word_maps(tensors["q"], tensors["k"], HEADS, word_columns([[2, 5]], TOKENS))
    assert torch.allclose(both[..., 0], expected.sum(-1), atol=1e-6)


def test_column_factors_multiply_and_leave_the_rest():
    factors = column_factors(5, [([1, 2], 2.0), ([2, 9], 0.5), ([], 7.0)])
    assert factors.tolist() == [1.0, 2.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("keeps", [True, False])
def test_other_rows_of_the_batch_keep_their_bits(keeps):
    """Between two rows that are not edited; with nothing of its own left, the edit's row is the source's to the last bit."""
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(3, n, WIDTH, generator=generator) for n in (PIXELS, TOKENS, TOKENS))
    source = torch.randn(1, PIXELS, WIDTH, generator=generator), torch.randn(1, TOKENS, WIDTH, generator=generator)
    matrix = torch.eye(TOKENS)
    if keeps:
        matrix[:, 3] = 0.0
    mix = mix_columns(matrix, torch.ones(TOKENS, dtype=torch.bool), torch.ones(TOKENS))
    before = [x.clone() for x in (q, k, v)]
    result = inject(q, k, v, *source, mix, rows=slice(1, 2))
    assert torch.equal(result[[0, 2]], attend(q, k, v)[[0, 2]])
    assert all(torch.equal(x, y) for x, y in zip((q, k, v), before, strict=True)), (
        "the model's own tensors are not written to"
    )
    assert keeps or torch.equal(result[1:2], attend(*source, v[1:2]))


def test_rows_are_put_in_order():
    batch = torch.arange(5.0)[:, None]
    one, two = torch.tensor([[10.0], [11.0]]), torch.tensor([[12.0]])
    assert put_rows(batch, [(slice(3, 4), two), (slice(0, 2), one)]).flatten().tolist() == [10, 11, 2, 12, 4]
    assert put_rows(one, [(slice(0, 2), one)]) is one


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
