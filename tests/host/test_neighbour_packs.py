"""Edits and scales beside what the widespread packs do to a model, each as a double that patches in the same place."""

from __future__ import annotations

import logging

import comfy.controlnet
import comfy.ldm.modules.attention as attention
import comfy.patcher_extension as extension
import comfy.sd
import pytest
import torch
from aai_pack.aai_models.errors import EditError
from aai_pack.nodes.host.inject import edits, loudness, prompt_to_prompt
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_neighbours import controlled
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, empty, encode, sample

BLOCK = "diffusion_model.middle_block.1.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def models():
    return micro.build()


def image_tokens(seed: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 4, 64, generator=generator), torch.randn(1, 4, 64, generator=generator)


def like_ipadapter_plus(model):
    """IPAdapter_plus: a replace in many layers at once, within a range of sigma, that differs for the empty prompt's rows."""
    keys, values = image_tokens()

    def attend(q, k, v, extra):
        out = attention.optimized_attention(q, k, v, extra["n_heads"])
        if float(extra["sigmas"][0]) < 1.0 or q.shape[-1] != 64:
            return out
        rows = q.shape[0] // len(extra["cond_or_uncond"])
        image = attention.optimized_attention(
            q, *(x.to(q).expand(q.shape[0], -1, -1) for x in (keys, values)), extra["n_heads"]
        )
        shares = torch.tensor([0.0 if which else 0.4 for which in extra["cond_or_uncond"] for _ in range(rows)])
        return out + shares.to(out)[:, None, None] * image

    clone = model.clone()
    for place in (("middle", 0), ("output", 0), ("output", 1), ("input", 2)):
        clone.set_model_attn2_replace(attend, *place)
    return clone


def like_nag_of_kjnodes(model):
    """KJNodes' guidance in attention: the layer's own `forward` is put aside for the time of sampling (an object patch)."""
    layer = model.get_model_object(BLOCK)
    keys, values = image_tokens(13)

    def forward(x, context=None, value=None, mask=None, transformer_options=None, **_):
        q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(context if value is None else value)
        near = attention.optimized_attention(q, k, v, layer.heads)
        far = attention.optimized_attention(
            q, *(x.to(q).expand(q.shape[0], -1, -1) for x in (keys, values)), layer.heads
        )
        led = near + 0.3 * (near - far)
        norm, most = led.norm(dim=-1, keepdim=True), near.norm(dim=-1, keepdim=True)
        return layer.to_out(led * (most / norm.clamp_min(1e-6)).clamp(max=1.0))

    clone = model.clone()
    clone.add_object_patch(f"{BLOCK}.forward", forward)
    return clone


def like_sage_of_kjnodes(model):
    """KJNodes' choice of another attention: an override that computes every call in another way, with queries of few bits."""

    def override(_, q, k, v, heads, *args, **options):
        options.pop("_inside_attn_wrapper", None)
        return attention.attention_basic.__wrapped__((8 * q).round() / 8, k, v, heads, *args, **options)

    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = override
    return clone


def like_power_lora_of_rgthree(model):
    """rgthree's Power Lora Loader: several LoRAs one after the other, on a clone."""
    for seed, name in enumerate(("middle_block_1", "output_blocks_1_1")):
        generator = torch.Generator().manual_seed(20 + seed)
        key = f"lora_unet_{name}_transformer_blocks_0_attn2_to_k"
        width = 64
        lora = {f"{key}.lora_up.weight": torch.randn(width, 4, generator=generator) * 0.3}
        lora[f"{key}.lora_down.weight"] = torch.randn(4, 768, generator=generator) * 0.1
        model, _ = comfy.sd.load_lora_for_models(model, None, lora, 0.8, 0.0)
    return model


def like_efficiency(model):
    """Efficiency nodes and Impact's KSamplers: guidance functions and a wrapper around each call of the model."""

    def call(apply, arguments):
        return apply(arguments["input"], arguments["timestep"], **arguments["c"]) * 1.001

    clone = model.clone()
    clone.set_model_unet_function_wrapper(call)
    clone.set_model_sampler_cfg_function(
        lambda args: args["uncond"] + (args["cond"] - args["uncond"]) * (args["cond_scale"] * 0.9)
    )
    return clone


def like_differential_of_impact(model):
    """Impact's detailers with Differential Diffusion: the mask of what is redrawn becomes another at each step."""
    clone = model.clone()
    clone.set_model_denoise_mask_function(lambda sigma, mask, extra_options=None: (mask >= 0.5).to(mask.dtype))
    return clone


PACKS = [like_ipadapter_plus, like_nag_of_kjnodes, like_sage_of_kjnodes, like_power_lora_of_rgthree, like_efficiency]
PACKS += [like_differential_of_impact]


def both_ways(models, neighbour, latent=None):
    """Our patch before the neighbour's and after it: (the neighbour alone, the two models to edit with)."""
    with torch.inference_mode():
        return neighbour(models[0]), (neighbour(prompt_to_prompt.patched(models[0])), neighbour(models[0]))


@pytest.mark.parametrize("neighbour", PACKS)
def test_edits_beside_each(models, neighbour):
    """The source is that of the neighbour alone, closed windows leave the neighbour's picture, and an edit acts."""
    latent = empty()
    if neighbour is like_differential_of_impact:
        latent["noise_mask"] = torch.ones(1, 1, 64, 96)
        latent["noise_mask"][..., :40] = 0.2
        latent["samples"] = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(30))
    other, ways = both_ways(models, neighbour)
    stock = alone(models, SOURCE, latent=latent, model=other)
    assert not torch.equal(stock, alone(models, SOURCE, latent=latent)), "the neighbour acts"
    for model in ways:
        source, target = edit(models, SOURCE, [TARGET], latent=latent, model=model)
        _, closed = edit(models, SOURCE, [TARGET], latent=latent, model=model, cross_end=0.0, self_end=0.0)
        assert torch.equal(source, stock)
        assert torch.equal(closed, alone(models, TARGET, latent=latent, model=other))
        assert not torch.equal(target, closed) and bool(torch.isfinite(target).all())


def test_a_layer_that_another_pack_computes_is_left_to_it_and_told(models, caplog):
    """A replace would pass the other pack's `forward` by; all other layers are still edited and watched."""
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        edit(models, SOURCE, [TARGET], model=like_nag_of_kjnodes(models[0]))
    told = [record.message for record in caplog.records if "in its own way" in record.message]
    assert told == [
        "Prompt-to-prompt: another node computes 1 attention layers in its own way, so the edit skips them."
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        edit(models, SOURCE, [TARGET])
    assert not caplog.records


@pytest.mark.parametrize("neighbour", PACKS)
def test_scales_beside_each(models, neighbour):
    other, _ = both_ways(models, neighbour)
    latent = empty()
    if neighbour is like_differential_of_impact:
        latent["noise_mask"] = torch.full((1, 1, 64, 96), 0.7)
    with torch.inference_mode():
        prompt = encode(models, TARGET)
        neutral, loud = (loudness.scaled(prompt, "<A*>", scale, 0.0, 1.0, "own") for scale in (1.0, 2.0))
        model = loudness.patched(other)
    plain = alone(models, prompt, latent=latent, model=other)
    assert torch.equal(alone(models, neutral, latent=latent, model=model), plain)
    assert not torch.equal(alone(models, loud, latent=latent, model=model), plain)


class Keyframed(comfy.controlnet.ControlNet):
    """Advanced-ControlNet: a control whose strength changes over the run and from one latent of the batch to the next."""

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        control = super().get_control(x_noisy, t, cond, batched_number, transformer_options)
        if control is None:  # its range of the run is over
            return None
        strength = 1.0 if float(t[0]) > 2.0 else 0.25
        seen.append(tuple(transformer_options["cond_or_uncond"]))
        return {kind: [None if x is None else x * strength for x in parts] for kind, parts in control.items()}

    def copy(self):
        fresh = Keyframed(None, load_device=self.load_device)
        fresh.control_model, fresh.control_model_wrapped = self.control_model, self.control_model_wrapped
        self.copy_to(fresh)
        return fresh


seen: list[tuple] = []


def keyframed(conditioning: list) -> list:
    changed = controlled(conditioning)
    for _, extra in changed:
        control = extra["control"]
        control.__class__ = Keyframed
    return changed


def prepared(model):
    """Advanced-ControlNet and AnimateDiff-Evolved: a wrapper around the whole run, which notes things and puts them back."""

    def outer(executor, *args, **kwargs):
        options = executor.class_obj.model_options
        options["transformer_options"]["neighbour"] = True
        try:
            return executor(*args, **kwargs)
        finally:
            del options["transformer_options"]["neighbour"]

    clone = model.clone()
    clone.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, "neighbour", outer)
    return clone


def test_beside_controls_with_keyframes(models):
    with torch.inference_mode():
        conditioned = {text: keyframed(encode(models, text)) for text in (SOURCE, TARGET)}
        stock = alone(models, conditioned[SOURCE], model=prepared(models[0]))
        assert seen and not torch.equal(stock, alone(models, SOURCE))
        for model in (prepared(models[0]), prepared(prompt_to_prompt.patched(models[0]))):
            source, target = edit(models, conditioned[SOURCE], [conditioned[TARGET]], model=model)
            _, closed = edit(
                models, conditioned[SOURCE], [conditioned[TARGET]], model=model, cross_end=0.0, self_end=0.0
            )
            assert torch.equal(source, stock)
            assert torch.equal(closed, alone(models, conditioned[TARGET], model=prepared(models[0])))
            assert not torch.equal(target, closed)


def windowed(model, length: int):
    """AnimateDiff-Evolved: the frames of a batch go through the model some at a time, and are put together again."""

    def calculate(executor, model, conds, x, timestep, options):
        parts = [slice(start, start + length) for start in range(0, x.shape[0], length)]
        done = [executor(model, conds, x[part], timestep[part], options) for part in parts]
        return [torch.cat(rows) for rows in zip(*done, strict=True)]

    clone = model.clone()
    clone.add_wrapper_with_key(extension.WrappersMP.CALC_COND_BATCH, "windows", calculate)
    return clone


@pytest.mark.parametrize("length", [1, 2])
def test_frames_in_windows(models, length, caplog):
    """Two frames: where a window takes a branch's rows apart, the run still ends, and a stock run after it is untouched."""
    latent = empty(2)
    before = alone(models, SOURCE, latent=latent)
    with caplog.at_level(logging.WARNING):
        source, target = edit(models, SOURCE, [TARGET], latent=latent, model=windowed(models[0], length))
    assert bool(torch.isfinite(target).all()) and source.shape == before.shape
    closed = edit(
        models, SOURCE, [TARGET], latent=latent, model=windowed(models[0], length), cross_end=0.0, self_end=0.0
    )
    assert torch.allclose(closed[1], alone(models, TARGET, latent=latent, model=windowed(models[0], length)), atol=1e-3)
    assert torch.equal(alone(models, SOURCE, latent=latent), before)
    assert sum("Prompt-to-prompt" in record.message for record in caplog.records) <= 2, (
        "it is said once or twice, not at each layer"
    )


def like_prompt_control(models, text: str) -> list:
    """prompt-control: an encoding of its own making, in parts of the run, without the notes of our encoder."""
    early = models[1].encode_from_tokens(models[1].tokenize(text), return_pooled=True)[0]
    late = models[1].encode_from_tokens(models[1].tokenize(f"{text}, at night"), return_pooled=True)[0]
    ranges = ((early, 0.0, 0.5), (late, 0.5, 1.0))
    return [[cond, {"pooled_output": None, "start_percent": a, "end_percent": b}] for cond, a, b in ranges]


def test_prompts_that_another_pack_encoded(models):
    """Through our MODEL they are what they were; as negative they are fine; an edit of them is told which node it needs."""
    with torch.inference_mode():
        foreign = like_prompt_control(models, SOURCE)
        patched, latent = prompt_to_prompt.patched(models[0]), empty()
        stock = alone(models, foreign)
        assert torch.equal(alone(models, foreign, model=patched), stock)
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(), 1)
        source, _ = sample(patched, planned, foreign, branch_latent(latent, 2)).chunk(2)
        one = {**latent, "batch_index": [0]}
        assert torch.equal(source, sample(models[0], encode(models, SOURCE), foreign, one))
        with pytest.raises(EditError, match="Replace CLIP Text Encode with Prompt with Sounds"):
            edit(models, foreign, [TARGET])


def test_a_detail_pass_after_an_edit(models):
    """Impact's detailers sample a crop of another size with the same MODEL and a prompt of their own: as without us."""
    with torch.inference_mode():
        patched = prompt_to_prompt.patched(models[0])
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(), 1)
        negative = encode(models, "blurry")
        sample(patched, planned, negative, branch_latent(empty(), 2))
        for height, width in ((16, 8), (4, 20)):
            crop = empty(1, height, width)
            again = alone(models, "a face", latent=crop, model=patched)
            assert torch.equal(again, alone(models, "a face", latent=crop))
