"""Editing beside the host's other patches, under its other guiders, and on the other families of models."""

from __future__ import annotations

import logging

import comfy.cldm.cldm
import comfy.controlnet
import comfy.gligen
import comfy.hooks
import comfy.ldm.modules.attention
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom
import comfy_extras.nodes_easycache as easycache
import comfy_extras.nodes_freelunch as freelunch
import comfy_extras.nodes_hypertile as hypertile
import comfy_extras.nodes_pag as pag
import comfy_extras.nodes_perpneg as perpneg
import comfy_extras.nodes_sag as sag
import comfy_extras.nodes_tomesd as tomesd
import pytest
import torch
from aai_pack.devtools import in_process
from aai_pack.nodes.host.inject import edits, prompt_to_prompt
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, empty, encode

import nodes

SIGMAS = torch.tensor([14.6, 6.0, 2.5, 1.0, 0.4, 0.0])


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def precise():
    """Models that compute in double precision, see test_prompt_to_prompt.py."""
    return micro.build(weights=torch.float64)


def call(node, *args):
    """A node of the host, written for its older or its newer interface."""
    if hasattr(node, "execute"):
        return node.execute(*args)[0]
    return getattr(node(), node.FUNCTION)(*args)[0]


NEIGHBOURS = {
    "PAG": lambda model: call(pag.PerturbedAttentionGuidance, model, 3.0),
    "SAG": lambda model: call(sag.SelfAttentionGuidance, model, 0.5, 2.0),
    "FreeU": lambda model: call(freelunch.FreeU_V2, model, 1.3, 1.4, 0.9, 0.2),
    "ToMe": lambda model: call(tomesd.TomePatchModel, model, 0.3),
    "HyperTile": lambda model: call(hypertile.HyperTile, model, 64, 2, 0, False),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_the_hosts_own_patches(models, name, ours_first):
    """The source is that of a run with the neighbour alone, and closed windows leave the neighbour as it is."""
    with torch.inference_mode():
        neighbour = NEIGHBOURS[name](models[0])
        model = NEIGHBOURS[name](prompt_to_prompt.patched(models[0])) if ours_first else neighbour
    if name == "HyperTile":  # it draws its tiles from the global random state, which differs between any two runs
        torch.manual_seed(0)
    source, target = edit(models, SOURCE, [TARGET], model=model)
    _, closed = edit(models, SOURCE, [TARGET], model=model, cross_end=0.0, self_end=0.0)
    assert bool(torch.isfinite(target).all())
    if name != "HyperTile":
        assert torch.equal(source, alone(models, SOURCE, model=neighbour))
        assert torch.equal(closed, alone(models, TARGET, model=neighbour))
    assert not torch.equal(target, closed)


def controlled(conditioning: list) -> list:
    """As Apply ControlNet does, with a small ControlNet of random weights."""
    settings = {"image_size": 32, "in_channels": 4, "model_channels": 32, "hint_channels": 3, "num_res_blocks": [1, 1]}
    settings |= {"channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_middle": 1, "num_heads": 8}
    with in_process.whole_weights():
        network = comfy.cldm.cldm.ControlNet(
            **settings,
            use_spatial_transformer=True,
            context_dim=768,
            dtype=torch.float32,
            operations=comfy.ops.manual_cast,
        )
    micro.fill(network, 7)
    generator = torch.Generator().manual_seed(8)
    control = comfy.controlnet.ControlNet(network, load_device=mm.get_torch_device())
    control.set_cond_hint(torch.rand(1, 3, 64, 96, generator=generator), 0.5, (0.0, 0.6))
    return [[cond, {**extra, "control": control, "control_apply_to_uncond": True}] for cond, extra in conditioning]


def boxed(conditioning: list) -> list:
    """As GLIGEN Textbox Apply does, with small modules of random weights."""
    generator = torch.Generator().manual_seed(9)
    widths = (32, 64, 64, 64, 64, 32, 32)  # of the model's transformers in the order of their numbers
    with in_process.whole_weights():
        modules = [comfy.gligen.GatedSelfAttentionDense(width, 768, 8, width // 8) for width in widths]
        network = comfy.gligen.Gligen(modules, comfy.gligen.PositionNet(768, 768), 768)
    micro.fill(network, 10)
    for module in modules:
        module.alpha_attn.data.fill_(0.5)
        module.alpha_dense.data.fill_(0.5)
    patcher = comfy.model_patcher.ModelPatcher(network, mm.get_torch_device(), micro.CPU)
    box = (torch.randn(1, 768, generator=generator), 4, 4, 2, 2)
    return [[cond, {**extra, "gligen": ("position", patcher, [box])}] for cond, extra in conditioning]


def hooked_lora(conditioning: list) -> list:
    """As Cond Set Props with a LoRA hook does."""
    generator = torch.Generator().manual_seed(11)
    name = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_v"
    lora = {f"{name}.lora_up.weight": torch.randn(32, 4, generator=generator) * 0.3}
    lora[f"{name}.lora_down.weight"] = torch.randn(4, 768, generator=generator) * 0.1
    return comfy.hooks.set_hooks_for_conditioning(conditioning, comfy.hooks.create_hook_lora(lora, 1.0, 0.0))


@pytest.mark.parametrize("apply", [controlled, boxed, hooked_lora])
def test_beside_what_travels_on_the_conditioning(models, apply):
    with torch.inference_mode():
        conditioned = {text: apply(encode(models, text)) for text in (SOURCE, TARGET)}
        source, target = edit(models, conditioned[SOURCE], [conditioned[TARGET]])
        assert torch.equal(source, alone(models, conditioned[SOURCE]))
        assert not torch.equal(source, alone(models, SOURCE)), "the neighbour acts"
        closed = edit(models, conditioned[SOURCE], [conditioned[TARGET]], cross_end=0.0, self_end=0.0)[1]
        assert torch.equal(closed, alone(models, conditioned[TARGET]))
        assert not torch.equal(target, closed)
        everything = {"cross_end": 1.0, "self_end": 1.0, "self_downsample": 1}
        assert torch.equal(*edit(models, conditioned[SOURCE], [conditioned[SOURCE]], **everything))


COMBINED = {
    "timestep range": lambda cond, other: (
        call(nodes.ConditioningSetTimestepRange, cond, 0.0, 0.5)
        + call(nodes.ConditioningSetTimestepRange, other, 0.5, 1.0)
    ),
    "concat": lambda cond, other: call(nodes.ConditioningConcat, cond, other),
    "average": lambda cond, other: call(nodes.ConditioningAverage, cond, other, 0.7),
    "combine": lambda cond, other: call(nodes.ConditioningCombine, cond, other),
    "mask": lambda cond, other: call(nodes.ConditioningSetMask, cond, torch.ones(1, 64, 96), "default", 1.0) + other,
}


@pytest.mark.parametrize("name", COMBINED)
def test_prompts_that_the_hosts_nodes_put_together(models, name):
    with torch.inference_mode():
        other = encode(models, "a boat in the fog")
        source, target = (COMBINED[name](encode(models, text), other) for text in (SOURCE, TARGET))
        first, edited = edit(models, source, [target])
        assert torch.equal(first, alone(models, source))
        assert torch.equal(edit(models, source, [target], cross_end=0.0, self_end=0.0)[1], alone(models, target))
        assert not torch.equal(edited, alone(models, target)) and bool(torch.isfinite(edited).all())
        assert torch.equal(*edit(models, source, [source], cross_end=1.0, self_end=1.0, self_downsample=1))


def like_ipadapter(model):
    """An image's tokens through projections of their own, added in one transformer: a replace with the long key."""
    generator = torch.Generator().manual_seed(12)
    keys, values = (torch.randn(1, 4, 64, generator=generator) for _ in range(2))

    def attend(q, k, v, extra):
        own = comfy.ldm.modules.attention.optimized_attention(q, k, v, heads=extra["n_heads"])
        image = [x.to(q).expand(q.shape[0], -1, -1) for x in (keys, values)]
        return own + 0.5 * comfy.ldm.modules.attention.optimized_attention(q, *image, heads=extra["n_heads"])

    clone = model.clone()
    clone.set_model_attn2_replace(attend, "middle", 0, 0)
    return clone


def like_nag(model):
    """A patch of what the words' attention puts out, held near its former norm."""

    def limit(out, extra):
        norm = out.norm(dim=-1, keepdim=True)
        return out * (norm.mean() / norm.clamp_min(1e-6)).clamp(max=1.2)

    clone = model.clone()
    clone.set_model_attn2_output_patch(limit)
    return clone


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("neighbour", [like_ipadapter, like_nag])
def test_beside_patches_of_other_packs(models, neighbour, ours_first):
    with torch.inference_mode():
        other = neighbour(models[0])
        model = neighbour(prompt_to_prompt.patched(models[0])) if ours_first else other
    source, target = edit(models, SOURCE, [TARGET], model=model)
    assert torch.equal(source, alone(models, SOURCE, model=other))
    assert not torch.equal(source, alone(models, SOURCE)), "the neighbour acts"
    _, closed = edit(models, SOURCE, [TARGET], model=model, cross_end=0.0, self_end=0.0)
    assert torch.equal(closed, alone(models, TARGET, model=other))
    assert not torch.equal(target, closed)


@pytest.mark.parametrize("kind", ["EasyCacheNode", "LazyCacheNode"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_a_cache_that_skips_steps(models, kind, ours_first, caplog):
    """Exactness is then impossible: the run ends well, and says so once where the source left out what an edit needs."""
    with torch.inference_mode():
        base = prompt_to_prompt.patched(models[0]) if ours_first else models[0]
        cached = call(getattr(easycache, kind), base, 3.0, 0.1, 0.95, False)
        with caplog.at_level(logging.WARNING):
            results = edit(models, SOURCE, [TARGET], model=cached)
    assert all(bool(torch.isfinite(result).all()) for result in results)
    told = [record.message for record in caplog.records if "Prompt-to-prompt" in record.message]
    assert len(told) <= 1, "once, whatever number of layers"
    assert torch.equal(edit(models, SOURCE, [TARGET])[0], alone(models, SOURCE))


def guided(models, guider_of, latent):
    """A run of SamplerCustomAdvanced."""
    noise = comfy.sample.prepare_noise(latent["samples"], 3, latent.get("batch_index"))
    guider, sampler = guider_of(), comfy.samplers.sampler_object("euler")
    return guider.sample(noise, latent["samples"], sampler, SIGMAS, disable_pbar=True, seed=3)


def guiders(model, positive, negative, middle):
    def cfg():
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(5.0)
        return guider

    def basic():
        guider = custom.Guider_Basic(model)
        guider.set_conds(positive)
        return guider

    def dual():
        guider = custom.Guider_DualCFG(model)
        guider.set_conds(positive, middle, negative)
        guider.set_cfg(4.0, 3.0)
        return guider

    def perp():
        guider = perpneg.Guider_PerpNeg(model)
        guider.set_conds(positive, negative, middle)
        guider.set_cfg(5.0, 1.0)
        return guider

    return {"cfg": cfg, "basic": basic, "dual": dual, "perp": perp}


@pytest.mark.parametrize("name", ["cfg", "basic", "dual", "perp"])
def test_every_guider(models, name):
    with torch.inference_mode():
        negative, middle = encode(models, "blurry"), encode(models, "water")
        one = empty() | {"batch_index": [0]}

        def run(target, **settings):
            planned = edits.plan(encode(models, SOURCE), [encode(models, target)], edits.EditSettings(**settings), 1)
            options = guiders(prompt_to_prompt.patched(models[0]), planned, negative, middle)
            return guided(models, options[name], branch_latent(empty(), 2)).chunk(2)

        def stock(prompt):
            return guided(models, guiders(models[0], encode(models, prompt), negative, middle)[name], one)

        source, target = run(TARGET)
        assert torch.equal(source, stock(SOURCE))
        assert not torch.equal(target, stock(TARGET))
        assert torch.equal(run(TARGET, cross_end=0.0, self_end=0.0)[1], stock(TARGET))
        assert torch.equal(*run(SOURCE, cross_end=1.0, self_end=1.0, self_downsample=1))


def test_a_batch_that_the_host_splits(precise, monkeypatch):
    source, target = edit(precise, SOURCE, [TARGET])
    monkeypatch.setattr(type(precise[0].model), "memory_required", lambda *a, **k: 1e18)
    split_source, split_target = edit(precise, SOURCE, [TARGET])
    assert (split_source - source).norm() < 1e-4 * (target - source).norm()
    assert (split_target - target).norm() < 1e-4 * (target - source).norm()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
@pytest.mark.parametrize("sampler", comfy.samplers.SAMPLER_NAMES)
def test_all_samplers_and_schedulers(models, sampler, scheduler):
    from aai_pack.tests.host.test_prompt_to_prompt import sample

    with torch.inference_mode():
        negative, source = encode(models, "blurry"), encode(models, SOURCE)
        planned = edits.plan(source, [source], edits.EditSettings(cross_end=1, self_end=1, self_downsample=1), 1)
        patched, latent = prompt_to_prompt.patched(models[0]), branch_latent(empty(), 2)
        ours, same = sample(patched, planned, negative, latent, sampler, scheduler=scheduler).chunk(2)
        stock = sample(models[0], source, negative, empty() | {"batch_index": [0]}, sampler, scheduler=scheduler)
    assert torch.equal(ours, stock) and torch.equal(same, stock)
