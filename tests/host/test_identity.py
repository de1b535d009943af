"""Which model it is: what decides a pixel is in its hash, where the host keeps it now is not."""

from __future__ import annotations

import functools
import threading

import comfy.hooks
import comfy.model_management as mm
import comfy.sd
import comfy.weight_adapter
import pytest
import torch
from aai_pack.nodes.host.base import digest
from aai_pack.nodes.host.base.content import Content
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_neighbours_of_training import CLIP_KEY, UNET_KEY
from comfy_extras import nodes_freelunch, nodes_model_advanced

import nodes as host_nodes

OTHER_KEY = UNET_KEY.replace("to_k", "to_q")


@pytest.fixture(scope="module")
def models():
    return micro.build()


def lora(shape, seed: int, rank: int = 4):
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator)
    weights = (up * 0.1, down * 0.1, float(rank), None, None, None)
    return comfy.weight_adapter.LoRAAdapter(set(), weights)


def with_lora(model, *loras):
    """A model with LoRAs (key, seed, strength), one after the other."""
    clone = model.clone()
    for key, seed, strength in loras:
        weight = (
            model.model.get_parameter(key) if hasattr(model, "model") else model.cond_stage_model.get_parameter(key)
        )
        clone.add_patches({key: lora(weight.shape, seed)}, strength)
    return clone


def freeu(model, *numbers):
    kind = nodes_freelunch.FreeU
    return (kind.execute(model, *numbers) if hasattr(kind, "execute") else kind().patch(model, *numbers))[0]


def rescaled(model, multiplier):
    return nodes_model_advanced.RescaleCFG().patch(model, multiplier)[0]


def predicting(model, *settings):
    return nodes_model_advanced.ModelSamplingDiscrete().patch(model, *settings)[0]


def wrapped(model, strength):
    class Wrapper:
        def __call__(self, apply, arguments):
            return apply(arguments["input"], arguments["timestep"], **arguments["c"]) * strength

    clone = model.clone()
    clone.set_model_unet_function_wrapper(Wrapper())
    return clone


def wrapped_by_object(model, strength):
    class Wrapper:
        def __init__(self):
            self.strength, self.lock, self.model = strength, threading.Lock(), model

        def __call__(self, apply, arguments):
            return apply(arguments["input"], arguments["timestep"], **arguments["c"]) * self.strength

    clone = model.clone()
    clone.set_model_unet_function_wrapper(Wrapper().__call__)
    return clone


def steered(model, position):
    """A tensor of which one value alone differs."""
    steer = torch.zeros(1, 4, 64, 64)
    steer.view(-1)[position] = 1.0
    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(lambda arguments: arguments["denoised"] + steer.mean())
    return clone


def partly(model, strength):
    clone = model.clone()
    clone.set_model_attn1_patch(functools.partial(lambda q, k, v, extra, by: (q * by, k, v), by=strength))
    return clone


def around(model, strength):
    clone = model.clone()
    clone.add_wrapper_with_key("apply_model", "test", lambda executor, *args, **kwargs: executor(*args) * strength)
    return clone


MODELS = {
    "plain": lambda m: m,
    "lora": lambda m: with_lora(m, (UNET_KEY, 1, 1.0)),
    "weaker": lambda m: with_lora(m, (UNET_KEY, 1, 0.999)),
    "another lora": lambda m: with_lora(m, (UNET_KEY, 2, 1.0)),
    "two loras": lambda m: with_lora(m, (UNET_KEY, 1, 1.0), (UNET_KEY, 2, 0.5)),
    "two loras in turn": lambda m: with_lora(m, (UNET_KEY, 2, 0.5), (UNET_KEY, 1, 1.0)),
    "lora elsewhere": lambda m: with_lora(m, (OTHER_KEY, 1, 1.0)),
    "freeu": lambda m: freeu(m, 1.1, 1.2, 0.9, 0.2),
    "freeu, other": lambda m: freeu(m, 1.1, 1.2, 0.9, 0.25),
    "rescale": lambda m: rescaled(m, 0.7),
    "rescale, other": lambda m: rescaled(m, 0.71),
    "eps": lambda m: predicting(m, "eps", False),
    "v": lambda m: predicting(m, "v_prediction", False),
    "v, zero snr": lambda m: predicting(m, "v_prediction", True),
    "lcm": lambda m: predicting(m, "lcm", False),
    "x0": lambda m: predicting(m, "x0", False),
    "wrapped": lambda m: wrapped(m, 1.0),
    "wrapped, other": lambda m: wrapped(m, 1.1),
    "wrapped by an object": lambda m: wrapped_by_object(m, 1.0),
    "wrapped by an object, other": lambda m: wrapped_by_object(m, 1.1),
    "steered": lambda m: steered(m, 5001),
    "steered, other": lambda m: steered(m, 5003),
    "partial": lambda m: partly(m, 1.0),
    "partial, other": lambda m: partly(m, 1.1),
    "around": lambda m: around(m, 1.0),
    "around, other": lambda m: around(m, 1.1),
}


def loaded(*patchers):
    """Loads each; the oldest host in an order of its own, so that any of them may be the last."""
    with torch.inference_mode():
        mm.load_models_gpu(list(patchers), force_full_load=True)


def test_each_change_of_a_model_is_noticed_and_none_is_seen_twice(models):
    found = {name: digest.identify_model(change(models[0])) for name, change in MODELS.items()}
    again = {name: digest.identify_model(change(models[0])) for name, change in MODELS.items()}
    assert found == again
    assert len({identity.digest for identity in found.values()}) == len(MODELS)
    assert all(identity.unknown == () for identity in found.values())
    runs = {name: digest.patched_digest(change(models[0])) for name, change in MODELS.items()}
    assert len(set(runs.values())) == len(MODELS), "the names of trainings notice as much"


@pytest.mark.whole_weights(
    reason="ComfyUI 0.30.0 writes the noise levels of the sampling before into that which is loaded now"
)
@pytest.mark.parametrize("name", MODELS)
def test_loading_changes_no_name(models, name):
    plain, changed = models[0], MODELS[name](models[0])
    before = [digest.identify_model(model) for model in (plain, changed)]
    for model in (changed, plain, changed):
        loaded(model)
        assert [digest.identify_model(model) for model in (plain, changed)] == before
    mm.unload_all_models()
    assert [digest.identify_model(model) for model in (plain, changed)] == before


def clip_with(clip, **changes):
    clone = clip.clone()
    for name, value in changes.items():
        setattr(clone, name, value)
    return clone


def optioned(clip):
    clone = clip.clone()
    clone.set_tokenizer_option("min_length", 100)
    return clone


CLIPS = {
    "plain": lambda c: c,
    "clip skip": lambda c: host_nodes.CLIPSetLastLayer().set_last_layer(c, -2)[0],
    "lora": lambda c: with_lora(c.clone(), (CLIP_KEY, 1, 1.0)),
    "weaker": lambda c: with_lora(c.clone(), (CLIP_KEY, 1, 0.9)),
    "scheduled": lambda c: clip_with(c, use_clip_schedule=True),
    "hooked": lambda c: clip_with(c, apply_hooks_to_conds=comfy.hooks.create_hook_lora({CLIP_KEY: 1}, 1.0, 1.0)),
    "hooked, weaker": lambda c: clip_with(
        c, apply_hooks_to_conds=comfy.hooks.create_hook_lora({CLIP_KEY: 1}, 0.5, 1.0)
    ),
}


def test_each_change_of_a_clip_is_noticed(models):
    changes = CLIPS | ({"options": optioned} if hasattr(models[1], "set_tokenizer_option") else {})
    found = {name: digest.identify_clip(change(models[1])) for name, change in changes.items()}
    assert found == {name: digest.identify_clip(change(models[1])) for name, change in changes.items()}
    assert len({identity.digest for identity in found.values()}) == len(changes)
    loaded(*(change(models[1]).patcher for change in changes.values()))
    assert found == {name: digest.identify_clip(change(models[1])) for name, change in changes.items()}


def test_other_weights_are_another_model(models):
    others = micro.build(seed=3)
    for identify, one, other in zip(
        (digest.identify_model, digest.identify_clip, digest.identify_vae), models, others, strict=True
    ):
        assert identify(one).digest != identify(other).digest and identify(one) == identify(one)


def test_what_cannot_be_known_is_said_and_never_the_same(models):
    def pattern(values):
        def change(arguments):
            return arguments["denoised"] * next(values)

        return change

    def model():
        clone = models[0].clone()
        clone.set_model_sampler_post_cfg_function(pattern(x for x in (1.0, 2.0)))
        return clone

    one, other = model(), model()
    assert digest.identify_model(one).unknown == ("builtins.generator",)
    assert digest.patched_digest(one) == digest.patched_digest(one.clone()), "it is itself, while it lives"
    assert digest.patched_digest(one) != digest.patched_digest(other)


def test_the_names_of_version_0_1_0_stay(models):
    """Bridges on users' disks and the words that came over them know their CLIP by this hash."""
    import hashlib

    def old(patcher):
        known = hashlib.sha256()
        for name, tensor in patcher.model.state_dict().items():
            flat = tensor.data.reshape(-1)
            values = flat[:: max(1, flat.numel() // 64)][:64].float().cpu().numpy().tobytes()
            known.update(name.encode() + f" {tuple(tensor.shape)} {tensor.dtype}".encode() + values)
        for name in sorted(patcher.object_patches):
            known.update(b"[" + repr(name).encode() + b",dtype]")
        known.update(b"{}")
        return known.hexdigest()[:16]

    clip = models[1]
    mm.unload_all_models()  # a LoRA of a test before may still be in the weights, where version 0.1.0 would see it
    assert digest.patched_digest(clip.patcher) == old(clip.patcher)


def test_weights_that_the_host_casts_while_it_loads_them(models):
    """Late weights lie in the file's type, and those of plain layers in the model's type once they are loaded."""
    layer = torch.nn.Linear(8, 8, dtype=torch.float32)
    layer.weight_comfy_model_dtype = torch.float16
    before = digest.weights_digest(layer)
    layer.weight.data = layer.weight.data.half()
    assert digest.weights_digest(layer) == before


def test_absent_weights_count_as_the_zeros_that_they_become():
    with torch.device("meta"):
        layer = torch.nn.Linear(8, 8)
    before = digest.weights_digest(layer)
    layer = layer.to_empty(device="cpu")
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    assert digest.weights_digest(layer) == before


class TestContent:
    def test_one_value_among_many_and_their_order(self):
        described = lambda value: Content().of(lambda: value)  # noqa: E731
        values = [{"a": 1, "b": [1, 2]}, {"a": 1, "b": [2, 1]}, {"a": 1, "b": (1.0, 2)}, {1, 2}, {1, 3}, 1, True, "1"]
        assert len({described(value) for value in values}) == len(values)

    def test_a_ring_ends(self):
        ring = {"name": "ring"}
        holder = type("Holder", (), {})()
        holder.ring, ring["holder"] = ring, holder
        assert Content().of(holder) == Content().of(holder)

    def test_a_device_is_no_content(self):
        assert Content().of({torch.device("cpu"): True}) == Content().of({})

    def test_code_counts(self):
        one, other = (lambda x: x + 1), (lambda x: x - 1)
        assert Content().of(one) != Content().of(other)
