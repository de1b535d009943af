"""Eq. 8 in the host: on the model, on the conditioning, and together with prompt-to-prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aai_pack.aai_models.errors import EditError
from aai_pack.nodes.host.inject import edits, loudness, prompt_to_prompt
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, empty, encode, sample


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def precise():
    """Models that compute in double precision, see test_prompt_to_prompt.py."""
    return micro.build(weights=torch.float64)


def marked(models, factor, words="<A*>", start=0.0, end=1.0, prompt=TARGET, base="own"):
    with torch.inference_mode():
        return loudness.scaled(encode(models, prompt), words, factor, start, end, base)


def on_model(models, factor, **settings):
    return alone(models, marked(models, factor, **settings), model=loudness.patched(models[0]))


def on_conditioning(models, factor, **settings):
    with torch.inference_mode():
        return alone(models, loudness.hooked(marked(models, factor, **settings)))


def test_a_scale_of_one_is_the_stock_run(models):
    conditioning = encode(models, TARGET)
    assert loudness.scaled(conditioning, "<A*>", 1.0, 0.0, 1.0, "own") is conditioning
    assert torch.equal(on_model(models, 1.0), alone(models, TARGET))


@pytest.mark.parametrize("window", [(0.0, 0.0), (0.5, 0.5)])
def test_a_closed_window_is_the_stock_run(models, window):
    assert torch.equal(on_model(models, 2.0, start=window[0], end=window[1]), alone(models, TARGET))


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("window", [(0.0, 1.0), (0.0, 0.55), (0.3, 0.75)])
def test_both_routes_give_the_same_result(precise, factor, window):
    start, end = window
    plain = alone(precise, TARGET)
    one = on_model(precise, factor, start=start, end=end)
    other = on_conditioning(precise, factor, start=start, end=end)
    assert not torch.equal(one, plain)
    assert (one - other).norm() < 1e-4 * (one - plain).norm()


def test_the_edit_grows_with_the_distance_from_one(models):
    plain = alone(models, TARGET)
    below = [float((on_model(models, factor) - plain).norm()) for factor in (1.0, 0.7, 0.3)]
    above = [float((on_model(models, factor) - plain).norm()) for factor in (1.0, 1.4, 2.0)]
    assert below == sorted(below) and above == sorted(above) and below[0] == 0


def test_it_is_column_scaling_of_explicit_maps(precise):
    """The same run with an attention that builds its maps and scales their columns."""
    column = encode(precise, TARGET)[0][1]["aai_tokens"].columns[1][0]

    def explicit(q, k, v, extra):
        heads = extra["n_heads"]
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        maps = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        for index, positive in enumerate(extra["cond_or_uncond"]):
            if positive == 0:
                maps[index, :, :, column] *= 1.6
        return (maps @ v).transpose(1, 2).flatten(2)

    model = precise[0].clone()
    from aai_pack.nodes.host.base.patches import transformer_blocks

    for block in transformer_blocks(model.model.diffusion_model):
        model.set_model_attn2_replace(explicit, *block)
    expected, plain = alone(precise, TARGET, model=model), alone(precise, TARGET)
    assert (on_model(precise, 1.6) - expected).norm() < 1e-4 * (expected - plain).norm()


def test_a_batch_is_scaled_row_by_row(precise):
    single = on_model(precise, 1.5)
    batch = alone(precise, marked(precise, 1.5), latent=empty(2), model=loudness.patched(precise[0]))
    assert (batch[:1] - single).norm() < 1e-4 * (single - alone(precise, TARGET)).norm()


def test_several_words_and_scales_add_up(models):
    prompt = "<A*> at sea with <A2>"
    with torch.inference_mode():
        twice = loudness.scaled(marked(models, 1.5, prompt=prompt), "<A2>, sea", 0.5, 0.0, 1.0, "own")
    result = alone(models, twice, model=loudness.patched(models[0]))
    assert not torch.equal(result, on_model(models, 1.5, prompt=prompt))


def test_in_an_edit_the_scaled_word_is_scaled_and_the_source_is_not(precise):
    with torch.inference_mode():
        target = marked(precise, 1.8)
        model = loudness.patched(precise[0])
        source, scaled = edit(precise, SOURCE, [target], model=model)
        chained = prompt_to_prompt.patched(model)
        assert chained is not model
    plain_source, plain = edit(precise, SOURCE, [TARGET])
    assert torch.equal(source, plain_source)
    assert not torch.equal(scaled, plain)
    reweighted = edit(precise, SOURCE, [TARGET], reweight="<A*>: 1.8")[1]
    assert (scaled - reweighted).norm() < 1e-4 * (scaled - plain).norm()


def test_on_the_conditioning_in_an_edit(precise):
    with torch.inference_mode():
        target = loudness.hooked(marked(precise, 1.8))
    source, scaled = edit(precise, SOURCE, [target])
    plain_source, plain = edit(precise, SOURCE, [TARGET])
    expected = edit(precise, SOURCE, [TARGET], reweight="<A*>: 1.8")[1]
    assert torch.equal(source, plain_source)
    assert (scaled - expected).norm() < 1e-4 * (expected - plain).norm()


def test_the_order_of_the_patches_does_not_matter(models):
    with torch.inference_mode():
        planned = edits.plan(encode(models, SOURCE), [marked(models, 1.5)], edits.EditSettings(), 1)
        one, other = (
            sample(model, planned, encode(models, "blurry"), branch_latent(empty(), 2))
            for model in (
                loudness.patched(prompt_to_prompt.patched(models[0])),
                prompt_to_prompt.patched(loudness.patched(models[0])),
            )
        )
    assert torch.equal(one, other)


def test_nothing_stays_on_the_model(models):
    before = alone(models, TARGET)
    on_model(models, 2.0)
    on_conditioning(models, 2.0)
    assert torch.equal(before, alone(models, TARGET))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), float("-inf")])
def test_scales_that_are_no_numbers(scale):
    with pytest.raises(EditError, match="a number from 0 to 2"):
        loudness.scale_of(None, None, "manual", -23.0, scale)


@pytest.mark.parametrize(("scale", "expected"), [(-1.0, 0.0), (7.0, 2.0), (0.3, 0.3)])
def test_scales_out_of_range_are_clamped_and_said(scale, expected, caplog):
    assert loudness.scale_of(None, None, "manual", -23.0, scale) == expected
    assert bool(caplog.records) == (scale != expected)


def test_mappings_of_a_sound():
    tone = {"waveform": torch.sin(torch.arange(48000) * 0.13).view(1, 1, -1) * 0.1, "sample_rate": 48000}
    louder = {**tone, "waveform": tone["waveform"] * 10**0.5}
    one, two = (loudness.scale_of(sound, None, "sone", -23.0, 1.0) for sound in (tone, louder))
    assert two == pytest.approx(2 * one, rel=1e-2) or two == 2.0
    assert loudness.scale_of(None, -30.0, "relative", -30.0, 1.0) == 1.0
    assert loudness.scale_of({**tone, "waveform": tone["waveform"] * 0}, None, "sone", -23.0, 1.0) == 0.0
    with pytest.raises(EditError, match="no sound"):
        loudness.scale_of(None, None, "sone", -23.0, 1.0)


def test_a_word_that_the_prompt_does_not_hold(models):
    with pytest.raises(EditError, match="does not hold"):
        marked(models, 1.5, words="storm")


@pytest.mark.parametrize(
    "values",
    [[0.0, 5.0, 10.0], [[0.0, 5.0, 10.0]], [torch.tensor([0.0, 5.0, 10.0])], [np.array([[0, 5], [10, 10]])[:, :1], 10]],
)
def test_numbers_of_any_kind_are_scales(values):
    scales = loudness.scales_of_numbers(values, 0.5, 1.5, stretch=True)
    assert scales[0] == 0.5 and scales[-1] == 1.5 and len(scales) == 3


def test_numbers_that_are_scales_already_or_all_the_same():
    assert loudness.scales_of_numbers([-1, 0.3, 7], 0.0, 2.0, stretch=False) == [0.0, 0.3, 2.0]
    assert loudness.scales_of_numbers([4.0, 4.0], 0.0, 2.0, stretch=True) == [1.0, 1.0]
    assert loudness.sweep(0.0, 2.0, 5) == [0.0, 0.5, 1.0, 1.5, 2.0] and loudness.sweep(0.4, 2.0, 1) == [0.4]


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "no numbers"), ([float("nan")], "NaN or infinity"), (["loud"], "holds a str"), ([None], "holds a NoneType")],
)
def test_what_is_no_number_is_refused(values, message):
    with pytest.raises(EditError, match=message):
        loudness.scales_of_numbers(values, 0.0, 2.0, stretch=True)
    with pytest.raises(EditError, match="Swap them"):
        loudness.scales_of_numbers([1.0], 2.0, 0.0, stretch=True)
