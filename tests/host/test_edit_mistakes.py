"""What goes wrong around an edit: a wire that is missing, nodes in between, runs that stop early, too little memory."""

from __future__ import annotations

import logging

import comfy.sample
import pytest
import torch
from aai_pack.aai_models.errors import EditError
from aai_pack.nodes.host.inject import edits, loudness, photo, prompt_to_prompt
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_neighbours import call, controlled
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, STEPS, TARGET, alone, edit, empty, encode, sample

import nodes


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def precise():
    """Models that compute in double precision, see test_prompt_to_prompt.py."""
    return micro.build(weights=torch.float64)


def test_a_sampler_without_our_model_says_so(models):
    with torch.inference_mode():
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(), 1)
        negative, latent = encode(models, "blurry"), branch_latent(empty(), 2)
        for other in (models[0], loudness.patched(models[0])):
            with pytest.raises(EditError, match="Connect the MODEL output of Edit with Sound"):
                sample(other, planned, negative, latent)
        combined = call(nodes.ConditioningCombine, planned, encode(models, "sky"))
        with pytest.raises(EditError, match="Connect the MODEL output"):
            sample(models[0], call(nodes.ConditioningSetTimestepRange, combined, 0.0, 0.9), negative, latent)
        assert torch.isfinite(sample(prompt_to_prompt.patched(models[0]), planned, negative, latent)).all()
    assert torch.equal(alone(models, SOURCE), alone(models, SOURCE))


@pytest.mark.parametrize(
    ("mask", "same_as"),
    [
        (torch.ones(64, 96), torch.ones(1, 64, 96)),
        (torch.ones(1, 1, 64, 96), torch.ones(1, 64, 96)),
        (torch.ones(2, 64, 96), torch.ones(2, 64, 96)),
        (torch.ones(2, 1, 64, 96), torch.ones(2, 64, 96)),
    ],
)
def test_masks_of_every_shape(mask, same_as):
    assert torch.equal(edits.as_mask(mask, 2), same_as)


@pytest.mark.parametrize("shape", [(3, 64, 96), (64,), (2, 3, 64, 96), (0, 64, 96), (1, 0, 96)])
def test_masks_that_fit_no_picture(shape):
    with pytest.raises(EditError, match=r"blend_mask is .*one for each of 2 pictures"):
        edits.as_mask(torch.ones(shape), 2)


def test_a_flat_mask_acts(models):
    mask = torch.zeros(64, 96)
    mask[:, :48] = 1.0
    source, target = edit(models, SOURCE, [TARGET], mask=mask)
    assert torch.equal(source[..., 6:], target[..., 6:]) and not torch.equal(source[..., :6], target[..., :6])


def stopped_early(model, planned, negative, latent, first=None, last=None, noise=None):
    """KSampler (Advanced): some of the steps, leftover noise kept."""
    samples = latent["samples"]
    own = comfy.sample.prepare_noise(samples, 3, latent.get("batch_index"))
    noise = own if noise is None else noise
    return comfy.sample.sample(
        model, noise, STEPS, 5.0, "euler", "normal", planned, negative, samples,
        start_step=first, last_step=last, force_full_denoise=last is None, disable_pbar=True, seed=3,
        disable_noise=not bool(noise.any()),
    ), own  # fmt: skip


@pytest.mark.parametrize("method", ["virtual", "direct"])
def test_a_photos_run_that_stops_early_keeps_its_noise(models, method):
    """The source stands at the photo and what noise is left; a second sampler goes on from there to the photo itself."""
    given = {"samples": torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(4))}
    with torch.inference_mode():
        source = photo.tagged(encode(models, SOURCE), method, given["samples"])
        planned = edits.plan(source, [encode(models, TARGET)], edits.EditSettings(), 1)
        negative, model, both = encode(models, "blurry"), prompt_to_prompt.patched(models[0]), branch_latent(given, 2)
        half, noise = stopped_early(model, planned, negative, both, last=3)
        assert not torch.allclose(half[:1], given["samples"], atol=0.1) and not torch.equal(half[:1], half[1:])
        if method == "virtual":
            left = (half[:1] - given["samples"]) / noise[:1]
            assert left.std() < 1e-3 * left.mean(), "the photo and its noise at the sigma of the last step"
        rest, _ = stopped_early(model, planned, negative, {"samples": half}, first=3, noise=torch.zeros_like(half))
        whole, _ = stopped_early(model, planned, negative, both)
    assert torch.equal(rest[:1], given["samples"]) and torch.equal(whole[:1], given["samples"])
    assert not torch.equal(rest[1:], given["samples"])
    if method == "virtual":  # in one run and in two the same edit
        assert (rest[1:] - whole[1:]).norm() < 1e-3 * (whole[1:] - given["samples"]).norm()


@pytest.mark.parametrize("both", [True, False])
def test_recomputing_beside_a_controlnet(precise, both):
    """The host puts the source's ControlNet away before the edit asks for the source again."""
    with torch.inference_mode():
        source = controlled(encode(precise, SOURCE))
        target = controlled(encode(precise, TARGET)) if both else encode(precise, TARGET)
        results = [edit(precise, source, [target], memory=memory) for memory in ("device", "recompute")]
    assert torch.equal(results[0][0], results[1][0])
    assert (results[0][1] - results[1][1]).norm() < 1e-4 * (results[0][1] - results[0][0]).norm()


def put_behind(models, conditioning, how: str):
    with torch.inference_mode():
        if how == "concat":
            return call(nodes.ConditioningConcat, conditioning, encode(models, "a boat in the fog"))
        more = torch.randn(1, 8, 768, generator=torch.Generator().manual_seed(1))  # as Apply Style Model does
        return [[torch.cat([cond, more], dim=1), extra] for cond, extra in conditioning]


@pytest.mark.parametrize("how", ["concat", "style model"])
def test_a_scale_stays_with_its_own_prompt(precise, how):
    """On the conditioning as on the model: what another node puts behind the prompt is not scaled."""
    with torch.inference_mode():
        marked = loudness.scaled(encode(precise, TARGET), "<A*>", 2.0, 0.0, 1.0, "own")
        hooked = put_behind(precise, loudness.hooked(marked), how)
    expected = alone(precise, put_behind(precise, marked, how), model=loudness.patched(precise[0]))
    plain = alone(precise, put_behind(precise, encode(precise, TARGET), how))
    assert (expected - plain).norm() > 0
    assert (alone(precise, hooked) - expected).norm() < 1e-4 * (expected - plain).norm()


def test_a_prompt_that_the_host_repeats_is_told_from_one_with_more_behind_it():
    prompt, more = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    factors = torch.tensor([1.0, 2.0, 1.0, 1.0])
    both = torch.cat([torch.cat([prompt, prompt], 1), torch.cat([prompt, more], 1)])
    found = loudness.fitted(factors, both)[..., 0]
    assert found.tolist() == [[1, 2, 1, 1, 1, 2, 1, 1], [1, 2, 1, 1, 1, 1, 1, 1]]
    assert loudness.fitted(factors, prompt)[..., 0].tolist() == [[1, 2, 1, 1]]


def regional(model):
    """As packs for regions do: the words' attention of a picture is computed once for each region, in rows of its own."""

    def enlarge(n, context, value, extra):
        extra["aai_test_rows"] = n.shape[0]
        return tuple(torch.cat([x, x[-1:]]) for x in (n, context, value))

    def back(n, extra):
        return n[:-1]

    clone = model.clone()
    clone.set_model_attn2_patch(enlarge)
    clone.set_model_attn2_output_patch(back)
    return clone


def test_rows_that_another_node_added_are_noticed_and_left_alone(models, caplog):
    with torch.inference_mode():
        marked = loudness.scaled(encode(models, TARGET), "<A*>", 2.0, 0.0, 1.0, "own")
        plain = alone(models, TARGET, model=regional(models[0]))
        with caplog.at_level(logging.WARNING):
            scaled = alone(models, marked, model=loudness.patched(regional(models[0])))
            edited = edit(models, SOURCE, [TARGET], model=regional(models[0]), self_end=0.0)
    assert torch.equal(scaled, plain) and torch.equal(edited[1], plain)
    told = [record.message for record in caplog.records]
    assert sum("Loudness Scale" in text for text in told) == 1
    assert sum("changed the batch rows" in text and "Prompt-to-prompt" in text for text in told) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cross_start": 0.9, "cross_end": 0.2}, "cross window"),
        ({"reweight": "storm: 2"}, "'storm', which the prompt does not hold"),
        ({"reweight": "storm"}, "a word, a colon and a number"),
        ({"word_windows": "beach: 0.9-0.1"}, "word_windows"),
        ({"controller": "AttentionReplace"}, "needs the same number in both"),
        ({"controller": "nonsense"}, "one of"),
        ({"blend_words": "storm"}, "'storm', which no prompt holds"),
        ({"blend_words": "beach, strom"}, "'strom', which no prompt holds"),
        ({"blend_threshold": 1.5}, "between 0 and 1"),
        ({"memory": "cloud"}, "one of auto, device, ram, recompute"),
        ({"reweight": "beach: nan"}, "a number of 0 or more"),
        ({"reweight": "beach: inf"}, "a number of 0 or more"),
        ({"reweight": "beach: -1"}, "a number of 0 or more"),
    ],
)
def test_refusals(models, settings, message):
    with pytest.raises(EditError, match=message):
        edit(models, SOURCE, [TARGET], **settings)


def test_a_conditioning_of_the_stock_encoder_is_refused(models):
    clip = models[1]
    with torch.inference_mode():
        stock = clip.encode_from_tokens_scheduled(clip.tokenize(SOURCE))
    with pytest.raises(EditError, match="Prompt with Sounds"):
        edit(models, stock, [TARGET])


def test_a_latent_of_another_size_is_refused(models):
    with torch.inference_mode(), pytest.raises(EditError, match="LATENT output"):
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(), 2)
        sample(prompt_to_prompt.patched(models[0]), planned, encode(models, "blurry"), empty(3))
