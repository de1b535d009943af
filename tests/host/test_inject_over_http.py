"""Editing and loudness through the API of a real server: every kind of sampler node, lists, cancels and errors."""

from __future__ import annotations

import pytest
import torch
from aai_pack.tests.host import graphs
from aai_pack.tests.host.test_no_harm import stock_latent
from safetensors.torch import load

STEPS, SEED = 3, 5
SOURCE, TARGET = "a sea along the beach", "a sea with boats along the beach"


@pytest.fixture(scope="module")
def before(client, stand_ins):
    return stock_latent(client, stand_ins, 70)


def loaded(stand_ins, *texts: str) -> dict:
    """Checkpoint (1), an empty latent (2), the negative prompt (3), and prompts (10, 11, ...)."""
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    }
    for number, text in enumerate(texts):
        inputs = {"clip": ["1", 1], "text": text}
        graph[f"1{number}"] = {"class_type": "AAI_AudioTokenConditioning", "inputs": inputs}
    return graph


def edited(stand_ins, **settings) -> dict:
    """An edit whose model, conditioning and latent are outputs 0, 1, 2 of node 4."""
    graph = loaded(stand_ins, SOURCE, TARGET)
    inputs = {"model": ["1", 0], "source": ["10", 0], "target": ["11", 0], "latent": ["2", 0]}
    inputs |= {"cross_end": 0.8, "self_end": 0.4, "controller": "AttentionRefine", "memory": "auto", **settings}
    graph["4"] = {"class_type": "AAI_P2PAttentionInject", "inputs": inputs}
    return graph


def k_sampler(model, positive, latent, steps=STEPS):
    inputs = {"model": model, "positive": positive, "negative": ["3", 0], "latent_image": latent, "seed": SEED}
    inputs |= {"steps": steps, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    return {"20": {"class_type": "KSampler", "inputs": inputs}}, ["20", 0]


def k_sampler_advanced(model, positive, latent):
    inputs = {"model": model, "positive": positive, "negative": ["3", 0], "latent_image": latent}
    inputs |= {"add_noise": "enable", "noise_seed": SEED, "steps": STEPS, "cfg": 5.0, "sampler_name": "dpmpp_2m"}
    inputs |= {"scheduler": "karras", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    return {"20": {"class_type": "KSamplerAdvanced", "inputs": inputs}}, ["20", 0]


def _parts(model) -> dict:
    inputs = {"model": model, "scheduler": "normal", "steps": STEPS, "denoise": 1.0}
    return {
        "21": {"class_type": "BasicScheduler", "inputs": inputs},
        "22": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
    }


def sampler_custom(model, positive, latent):
    inputs = {"model": model, "add_noise": True, "noise_seed": SEED, "cfg": 5.0, "positive": positive}
    inputs |= {"negative": ["3", 0], "sampler": ["22", 0], "sigmas": ["21", 0], "latent_image": latent}
    return {**_parts(model), "20": {"class_type": "SamplerCustom", "inputs": inputs}}, ["20", 0]


def sampler_custom_advanced(model, positive, latent):
    guider = {"model": model, "positive": positive, "negative": ["3", 0], "cfg": 5.0}
    inputs = {"noise": ["23", 0], "guider": ["24", 0], "sampler": ["22", 0], "sigmas": ["21", 0]}
    return {
        **_parts(model),
        "23": {"class_type": "RandomNoise", "inputs": {"noise_seed": SEED}},
        "24": {"class_type": "CFGGuider", "inputs": guider},
        "20": {"class_type": "SamplerCustomAdvanced", "inputs": {**inputs, "latent_image": latent}},
    }, ["20", 0]


SAMPLER_NODES = [k_sampler, k_sampler_advanced, sampler_custom, sampler_custom_advanced]


def saved(client, graph: dict, samples) -> list[torch.Tensor]:
    """Run a graph and read the latents that it saves, one for each item of a list."""
    graph["30"] = {"class_type": "SaveLatent", "inputs": {"samples": samples, "filename_prefix": "http"}}
    run = client.run(graph)
    assert run.status == "success", run.message
    return [load(client.fetch(file))["latent_tensor"] for file in run.outputs["30"]["latents"]]


@pytest.mark.parametrize("sampler", SAMPLER_NODES)
def test_every_sampler_node(client, stand_ins, sampler):
    nodes, samples = sampler(["4", 0], ["4", 1], ["4", 2])
    (result,) = saved(client, edited(stand_ins) | nodes, samples)
    source, target = result.chunk(2)
    stock = {}
    for number, text in enumerate((SOURCE, TARGET)):
        nodes, samples = sampler(["1", 0], [f"1{number}", 0], ["2", 0])
        (stock[text],) = saved(client, loaded(stand_ins, SOURCE, TARGET) | nodes, samples)
    assert torch.equal(source, stock[SOURCE])
    assert not torch.equal(target, stock[TARGET]) and not torch.equal(target, source)
    nodes, samples = sampler(["4", 0], ["4", 1], ["4", 2])
    (closed,) = saved(client, edited(stand_ins, cross_end=0.0, self_end=0.0) | nodes, samples)
    assert torch.equal(closed.chunk(2)[1], stock[TARGET])


@pytest.mark.parametrize("at", [2, 14], ids=["source", "target"])
def test_after_a_cancel(client, stand_ins, before, at):
    """Ten steps of the source, then ten of the edit."""
    nodes, samples = k_sampler(["4", 0], ["4", 1], ["4", 2], steps=10)
    graph = edited(stand_ins) | nodes
    graph["30"] = {"class_type": "SaveLatent", "inputs": {"samples": samples, "filename_prefix": "never"}}
    graph["20"]["inputs"]["seed"] += at  # a seed of its own: nothing of it is in the host's cache
    seen = []

    def reached(event):
        data = event["data"]
        if event["type"] == "progress" and data.get("node") == "20":
            seen.append((data["value"], data["max"]))
        return bool(seen) and seen[-1][0] >= at

    run = client.run(graph, on_event=reached)
    assert run.status == "interrupted"
    assert seen[-1][1] == 20 and at <= seen[-1][0] < 20
    assert torch.equal(stock_latent(client, stand_ins, 70), before)


def test_after_an_error_in_the_wrapper(client, stand_ins, before):
    graph = edited(stand_ins)
    graph["5"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 3}}
    nodes, samples = k_sampler(["4", 0], ["4", 1], ["5", 0])
    graph |= nodes
    graph["30"] = {"class_type": "SaveLatent", "inputs": {"samples": samples, "filename_prefix": "never"}}
    run = client.run(graph)
    assert run.status == "error" and "Connect the LATENT output of Edit with Sound" in run.message
    assert torch.equal(stock_latent(client, stand_ins, 70), before)


def scaled(stand_ins, scale, mapping="manual") -> dict:
    graph = loaded(stand_ins, TARGET)
    inputs = {"conditioning": ["10", 0], "mapping": mapping, "scale": scale, "reference": -23.0, "words": "boats"}
    inputs |= {"start": 0.0, "end": 1.0, "base": "own", "model": ["1", 0]}
    graph["4"] = {"class_type": "AAI_LoudnessScale", "inputs": inputs}
    nodes, _ = k_sampler(["4", 1], ["4", 0], ["2", 0])
    return graph | nodes


def test_a_list_of_scales_makes_a_list_of_pictures(client, stand_ins):
    graph = scaled(stand_ins, ["5", 0])
    graph["5"] = {"class_type": "AAI_LoudnessSweep", "inputs": {"first": 0.0, "last": 2.0, "count": 3}}
    several = saved(client, graph, ["20", 0])
    assert len(several) == 3
    for scale, latent in zip((0.0, 1.0, 2.0), several, strict=True):
        (one,) = saved(client, scaled(stand_ins, scale), ["20", 0])
        assert torch.equal(one, latent)
    assert not torch.equal(several[0], several[1]) and not torch.equal(several[1], several[2])


def test_a_curve_follows_its_sound(client, stand_ins):
    graph = graphs.hear(stand_ins)
    inputs = {"audio": ["11", 0], "fps": 8.0, "frames": 5, "mapping": "sone", "reference": 0.0}
    graph = {"11": graph["11"], "22": {"class_type": "AAI_LoudnessCurve", "inputs": inputs}}
    graph["23"] = {"class_type": "PreviewAny", "inputs": {"source": ["22", 0]}}
    run = client.run(graph)
    assert run.status == "success", run.message
    shown = run.outputs["23"]["text"]
    scales = [float(text) for text in shown]
    assert len(scales) == 5 and all(0 <= scale <= 2 for scale in scales) and len(set(scales)) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 2.5}, "bigger than max"),
        ({"mapping": "sone"}, "there is no sound"),
        ({"words": "storm"}, "which the prompt does not hold"),
        ({"start": 0.9, "end": 0.1}, "A window must start before it ends"),
    ],
)
def test_refusals_reach_the_person(client, stand_ins, change, message):
    graph = scaled(stand_ins, 1.5)
    graph["4"]["inputs"].update(change)
    graph["30"] = {"class_type": "SaveLatent", "inputs": {"samples": ["20", 0], "filename_prefix": "never"}}
    run = client.run(graph)
    assert run.status in ("error", "rejected") and message in run.message
