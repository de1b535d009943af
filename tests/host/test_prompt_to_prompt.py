"""Exactness of prompt-to-prompt in the host's own samplers."""

from __future__ import annotations

import gc

import comfy.ldm.modules.attention
import comfy.model_management as mm
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import pytest
import torch
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.nodes.host.base import prompt_words as prompts
from aai_pack.nodes.host.inject import edits, prompt_to_prompt
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.nodes.host.inject.source_memory import Call
from aai_pack.tests.host import micro

STEPS = 5


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def precise():
    """Models that compute in double precision: what differs then is the method, and not how a processor rounds."""
    return micro.build(weights=torch.float64)


def word(seed: int = 0) -> AudioToken:
    generator = torch.Generator().manual_seed(100 + seed)
    return AudioToken(micro.sound(seed), {"clip_l": 0.01 * torch.randn(1, 768, generator=generator)}, {"clip_l": 0.4})


def encode(models, text: str):
    return prompts.encode(models[1], text, {1: word(), 2: word(1)})


def empty(pictures: int = 1, height: int = 8, width: int = 12) -> dict:
    return {"samples": torch.zeros(pictures, 4, height, width)}


def sample(
    model, positive, negative, latent, sampler="euler", cfg=5.0, denoise=1.0, scheduler="normal"
) -> torch.Tensor:
    """What KSampler does."""
    samples = latent["samples"]
    noise = comfy.sample.prepare_noise(samples, 3, latent.get("batch_index"))
    return comfy.sample.sample(
        model, noise, STEPS, cfg, sampler, scheduler, positive, negative, samples,
        denoise=denoise, noise_mask=latent.get("noise_mask"), seed=3, disable_pbar=True,
    )  # fmt: skip


def edit(
    models, source, targets, latent=None, mask=None, sampler="euler", model=None, cfg=5.0, denoise=1.0, **settings
):
    """Branches (source, edit, ...) of a run with prompt-to-prompt."""
    with torch.inference_mode():
        latent = latent or empty()
        settings = edits.EditSettings(**settings)
        source = encode(models, source) if isinstance(source, str) else source
        targets = [encode(models, t) if isinstance(t, str) else t for t in targets]
        planned = edits.plan(source, targets, settings, latent["samples"].shape[0], mask)
        patched = prompt_to_prompt.patched(model or models[0])
        branches = branch_latent(latent, 1 + len(targets))
        out = sample(patched, planned, encode(models, "blurry"), branches, sampler, cfg, denoise)
        return out.chunk(1 + len(targets))


def alone(models, prompt, latent=None, sampler="euler", model=None, cfg=5.0, denoise=1.0):
    """The same sampler without us; the noise is that of the rows of a batch."""
    with torch.inference_mode():
        latent = dict(latent or empty())
        latent["batch_index"] = list(range(latent["samples"].shape[0]))
        prompt = encode(models, prompt) if isinstance(prompt, str) else prompt
        return sample(model or models[0], prompt, encode(models, "blurry"), latent, sampler, cfg, denoise)


SAMPLERS = [
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "ddim",
    "lcm",
    "uni_pc",
    "euler_cfg_pp",
]
SOURCE, TARGET = "a sea along the beach", "a sea with <A*> along the beach"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_source_is_that_of_a_run_alone(models, sampler):
    source, _ = edit(models, SOURCE, [TARGET], sampler=sampler)
    assert torch.equal(source, alone(models, SOURCE, sampler=sampler))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_closed_windows_are_the_stock_run(models, sampler):
    _, target = edit(models, SOURCE, [TARGET], sampler=sampler, cross_end=0.0, self_end=0.0)
    assert torch.equal(target, alone(models, TARGET, sampler=sampler))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_prompt_with_everything_injected_is_the_source(models, sampler):
    source, target = edit(models, SOURCE, [SOURCE], sampler=sampler, cross_end=1.0, self_end=1.0, self_downsample=1)
    assert torch.equal(source, target)


def test_injection_changes_the_edit_and_keeps_it_nearer_to_the_source(models):
    source, target = edit(models, SOURCE, [TARGET], cross_end=1.0, self_end=1.0)
    free = alone(models, TARGET)
    assert not torch.equal(target, free) and not torch.equal(target, source)
    assert (target - source).norm() < (free - source).norm()


def test_many_edits_of_one_source_are_those_of_one_edit_each(models):
    prompts_ = [TARGET, "a sea along the <A2>", "a small sea along the beach"]
    source, *many = edit(models, SOURCE, prompts_)
    for prompt, result in zip(prompts_, many, strict=True):
        one_source, one = edit(models, SOURCE, [prompt])
        assert torch.equal(one, result) and torch.equal(one_source, source)


@pytest.mark.parametrize("pictures", [2, 3])
def test_batches(precise, pictures):
    latent = empty(pictures)
    source, target = edit(precise, SOURCE, [TARGET], latent=latent)
    assert torch.equal(source, alone(precise, SOURCE, latent=latent))
    for index in range(pictures):
        single = {"samples": torch.zeros(1, 4, 8, 12), "batch_index": [index]}
        _, one = edit(precise, SOURCE, [TARGET], latent=single)
        assert (one[0] - target[index]).norm() < 1e-4 * (target[index] - source[index]).norm()


def test_image_to_image_and_inpainting(models):
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 1, 64, 96)
    mask[..., 48:] = 1.0
    latent = {"samples": torch.randn(1, 4, 8, 12, generator=generator), "noise_mask": mask}
    source, target = edit(models, SOURCE, [TARGET], latent=latent, denoise=0.7)
    assert torch.equal(source, alone(models, SOURCE, latent=latent, denoise=0.7))
    assert torch.allclose(target[..., :6], latent["samples"][..., :6], atol=1e-5)
    assert not torch.equal(target[..., 6:], source[..., 6:])


@pytest.mark.parametrize(("height", "width"), [(7, 11), (5, 16), (1, 3)])
def test_sides_that_halve_unevenly(models, height, width):
    latent = empty(1, height, width)
    source, target = edit(models, SOURCE, [TARGET], latent, cross_end=1.0, self_end=1.0, blend_words="sea")
    assert torch.equal(source, alone(models, SOURCE, latent))
    assert bool(torch.isfinite(target).all())
    first, same = edit(models, SOURCE, [SOURCE], latent, cross_end=1.0, self_end=1.0, self_downsample=1)
    assert torch.equal(first, same)


def test_prompts_of_different_lengths(models):
    long = SOURCE + " and" * 90 + " <A*>"
    for source, target in ((SOURCE, long), (long, SOURCE)):
        result = edit(models, source, [target])
        assert torch.equal(result[0], alone(models, source))
        assert all(bool(torch.isfinite(r).all()) for r in result)


def test_regional_prompts(models):
    def regions(prompt):
        cond = encode(models, prompt)
        left = [[c, {**e, "area": (8, 8, 0, 0), "strength": 1.0, "set_area_to_bounds": False}] for c, e in cond]
        return left + encode(models, "sky")

    source, target = edit(models, regions(SOURCE), [regions(TARGET)])
    assert torch.equal(source, alone(models, regions(SOURCE)))
    _, closed = edit(models, regions(SOURCE), [regions(TARGET)], cross_end=0.0, self_end=0.0)
    assert torch.equal(closed, alone(models, regions(TARGET)))
    same = edit(models, regions(SOURCE), [regions(SOURCE)], cross_end=1.0, self_end=1.0, self_downsample=1)
    assert torch.equal(*same)
    assert not torch.equal(target, closed)


def test_a_neighbour_that_replaces_attention_is_chained(precise):
    """As IPAdapter does: an image term is added to the words' attention."""
    models = precise
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(1, 1, 64, generator=generator)
    calls = []

    def neighbour(q, k, v, extra):
        calls.append(extra["block"])
        own = comfy.ldm.modules.attention.optimized_attention(q, k, v, heads=extra["n_heads"])
        return own + 0.1 * image.expand(q.shape[0], 1, -1)[..., : q.shape[-1]].mean() * torch.ones_like(q)

    model = models[0].clone()
    model.set_model_attn2_replace(neighbour, "middle", 0)
    source, target = edit(models, SOURCE, [TARGET], model=model)
    assert torch.equal(source, alone(models, SOURCE, model=model))
    assert calls and not torch.equal(source, edit(models, SOURCE, [TARGET])[0])
    same = edit(models, SOURCE, [SOURCE], model=model, cross_end=1.0, self_end=1.0, self_downsample=1)
    assert (same[1] - same[0]).norm() < 1e-4 * (target - source).norm()


def test_an_ordinary_prompt_samples_as_usual(models):
    with torch.inference_mode():
        cond = encode(models, SOURCE)
        out = sample(prompt_to_prompt.patched(models[0]), cond, encode(models, "blurry"), empty())
        assert torch.equal(out, sample(models[0], cond, encode(models, "blurry"), empty()))


class StopError(Exception):
    """What a test raises in the middle of a run."""


def counted(when: int, error: type[BaseException]):
    """A function that does nothing until its `when`-th call."""
    calls = []

    def strike(*args):
        calls.append(args)
        if len(calls) == when:
            raise error("stopped by a test")

    return strike


def strike_in(where: str, strike, model):
    """(a model, a callback) of which one calls `strike`: the sampler's callback, a wrapper of another pack, its patch."""
    if where == "callback":
        return model, strike
    model = model.clone()

    def wrapper(executor, *args, **kwargs):
        strike()
        return executor(*args, **kwargs)

    def patch(q, k, v, extra):
        if extra["block"] == ("middle", 0):
            strike()
        return q, k, v

    if where == "wrapper":
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "test", wrapper)
    else:
        model.set_model_attn1_patch(patch)
    return model, None


@pytest.mark.parametrize("error", [StopError, mm.InterruptProcessingException])
@pytest.mark.parametrize("where", ["callback", "wrapper", "patch"])
@pytest.mark.parametrize("when", [1, STEPS, STEPS + 1, 2 * STEPS], ids=["begin", "source", "target", "end"])
def test_a_stop_anywhere_leaves_nothing_behind(models, when, where, error):
    before = alone(models, SOURCE)
    model, callback = strike_in(where, counted(when, error), models[0])
    with torch.inference_mode(), pytest.raises(error):
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(), 1)
        latent = branch_latent(empty(), 2)
        comfy.sample.sample(
            prompt_to_prompt.patched(model), torch.zeros(2, 4, 8, 12), STEPS, 5.0, "euler", "normal", planned,
            encode(models, "blurry"), latent["samples"], callback=callback, disable_pbar=True, seed=0,
        )  # fmt: skip
    assert not kept_calls(), "the source's attention is freed"
    assert torch.equal(before, alone(models, SOURCE))


def kept_calls() -> list:
    """What any bank still holds."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Call]


def test_a_run_leaves_no_memory_behind(models):
    for memory in ("device", "ram", "recompute"):
        edit(models, SOURCE, [TARGET], memory=memory)
        assert not kept_calls()


def test_empty_prompts(models):
    for source, target in (("", TARGET), (SOURCE, ""), ("", "")):
        results = edit(models, source, [target])
        assert torch.equal(results[0], alone(models, source))
        assert bool(torch.isfinite(results[1]).all())


def test_progress_is_that_of_one_long_run(models):
    seen = []
    with torch.inference_mode():
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(), 1)
        comfy.sample.sample(
            prompt_to_prompt.patched(models[0]), torch.zeros(2, 4, 8, 12), STEPS, 5.0, "euler", "normal", planned,
            encode(models, "blurry"), branch_latent(empty(), 2)["samples"],
            callback=lambda step, x0, x, total: seen.append((step, total, x0.shape[0])), disable_pbar=True, seed=0,
        )  # fmt: skip
    assert [s[:2] for s in seen] == [(n, 2 * STEPS) for n in range(2 * STEPS)]
    assert seen[-1][2] == 2


def test_local_blend_with_a_mask_is_the_source_outside(models):
    mask = torch.zeros(1, 64, 96)
    mask[:, :, :48] = 1.0
    source, target = edit(models, SOURCE, [TARGET], mask=mask)
    assert torch.equal(source[..., 6:], target[..., 6:])
    assert not torch.equal(source[..., :6], target[..., :6])
    assert torch.equal(source, alone(models, SOURCE))


def test_local_blend_with_words(models):
    plain_source, plain = edit(models, SOURCE, [TARGET])
    source, target = edit(models, SOURCE, [TARGET], blend_words="<A*>", blend_threshold=0.9)
    changed = (target != source).any(dim=1)
    assert torch.equal(source, plain_source)
    assert 0 < changed.sum() < changed.numel()
    assert not torch.equal(target, plain)
    everywhere = edit(models, SOURCE, [TARGET], blend_words="<A*>", blend_threshold=0.0, blend_start=0.0)[1]
    assert torch.equal(everywhere, plain)


def test_reweighting_by_one_changes_nothing_and_by_two_does(models):
    plain = edit(models, SOURCE, [TARGET])[1]
    assert torch.equal(plain, edit(models, SOURCE, [TARGET], reweight="<A*>: 1")[1])
    assert not torch.equal(plain, edit(models, SOURCE, [TARGET], reweight="<A*>: 2")[1])


def test_replacing_a_word(models):
    result = edit(models, "a photo of a dog", ["a photo of a cat"], controller="AttentionReplace")
    assert not torch.equal(*result)
    same = edit(models, SOURCE, [SOURCE], controller="AttentionReplace", cross_end=1.0, self_end=1.0, self_downsample=1)
    assert torch.equal(*same)


def test_windows_of_words(models):
    closed = edit(models, SOURCE, [TARGET], self_end=0.0, cross_end=0.0)[1]
    opened = edit(models, SOURCE, [TARGET], self_end=0.0, cross_end=0.0, word_windows="beach: 0-1")[1]
    assert not torch.equal(closed, opened)
