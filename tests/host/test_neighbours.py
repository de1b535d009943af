"""Editing beside the host's other patches, under its other guiders, and on the other families of models."""

from __future__ import annotations

import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom
import comfy_extras.nodes_freelunch as freelunch
import comfy_extras.nodes_hypertile as hypertile
import comfy_extras.nodes_pag as pag
import comfy_extras.nodes_perpneg as perpneg
import comfy_extras.nodes_sag as sag
import comfy_extras.nodes_tomesd as tomesd
import pytest
import torch
from aai_pack.nodes.host import edits, prompt_to_prompt
from aai_pack.nodes.host.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, empty, encode

SIGMAS = torch.tensor([14.6, 6.0, 2.5, 1.0, 0.4, 0.0])


@pytest.fixture(scope="module")
def models():
    return micro.build()


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


def test_a_batch_that_the_host_splits(models, monkeypatch):
    source, target = edit(models, SOURCE, [TARGET])
    monkeypatch.setattr(type(models[0].model), "memory_required", lambda *a, **k: 1e18)
    split_source, split_target = edit(models, SOURCE, [TARGET])
    assert torch.allclose(split_source, source, atol=1e-3)
    assert (split_target - target).norm() < 1e-2 * (target - source).norm()


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
