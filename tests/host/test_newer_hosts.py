"""What hosts after 0.30.0 do with attention, by test doubles of their parts: layers that prefer an attention, tensors in
containers that are taken once, overrides that may take containers, and a node that always installs one."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.ldm.modules.attention as attention
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.nodes.host.adapt import training
from aai_pack.nodes.host.base.patches import attention_preferences
from aai_pack.nodes.host.inject import prompt_to_prompt, watch
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import alone, edit

SOURCE, TARGET = "a photo of a beach", "a photo of a beach under <A*>"


class Container:
    """A tensor that is taken once, so that its memory is free as early as can be."""

    def __init__(self, tensor):
        self._tensor = tensor

    def take(self):
        tensor, self._tensor = self._tensor, None
        assert tensor is not None, "taken twice"
        return tensor


def taken(x):
    return x.take() if isinstance(x, Container) else x


class Newer:
    """The attention of a newer host: dispatches as it does, and notes who called with what."""

    def __init__(self):
        self.preferred = []  # of each call that no override answered
        self.contained = 0  # calls that an override answered from containers
        self._own = attention.optimized_attention

    def __call__(self, q, k, v, heads, *args, preferred_attention=None, transformer_options=None, **kwargs):
        override = (transformer_options or {}).get("optimized_attention_override")
        inside = kwargs.pop("_inside_attn_wrapper", False)
        if override is not None and not inside:
            wanted = {"preferred_attention": preferred_attention, "transformer_options": transformer_options, **kwargs}
            if hasattr(override, "container_function") and isinstance(q, Container):
                self.contained += 1
                return override.container_function(self, q, k, v, heads, *args, _inside_attn_wrapper=True, **wanted)
            return override(self, taken(q), taken(k), taken(v), heads, *args, _inside_attn_wrapper=True, **wanted)
        if transformer_options is not None:  # a text encoder's call has none
            self.preferred.append(preferred_attention)
        q, k, v = map(taken, (q, k, v))
        if preferred_attention is not None:
            return preferred_attention.function(q, k, v, heads)
        return self._own(q, k, v, heads, *args, transformer_options={}, **kwargs)


def layers(model):
    return [m for m in model.model.diffusion_model.modules() if isinstance(m, attention.CrossAttention)]


@pytest.fixture
def newer(monkeypatch):
    """A model on such a host: each of its layers prefers a coarser attention of its own."""
    models = micro.build()
    host = Newer()

    def forward(self, x, context=None, value=None, mask=None, transformer_options={}):  # noqa: B006 (as the host's)
        context = x if context is None else context
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context if value is None else value)
        contained = (Container(part) for part in (q, k, v))
        preferred = getattr(self, "comfy_attention", None)
        out = host(*contained, self.heads, preferred_attention=preferred, transformer_options=transformer_options)
        return self.to_out(out)

    monkeypatch.setattr(attention.CrossAttention, "forward", forward)
    monkeypatch.setattr(attention, "optimized_attention", host)
    for number, layer in enumerate(layers(models[0])):
        share = 0.9 - 0.01 * number  # so that one layer's preference is not another's
        layer.comfy_attention = SimpleNamespace(
            function=lambda q, k, v, heads, share=share: attention.attention_pytorch(share * q, k, v, heads)
        )
    return models, host


def test_this_host_prefers_none():
    unet = micro.build()[0].model.diffusion_model
    if not hasattr(layers(SimpleNamespace(model=SimpleNamespace(diffusion_model=unet)))[0], "comfy_attention"):
        assert attention_preferences(unet, "attn2") == {} == attention_preferences(unet, "attn1")


def test_an_edit_passes_on_what_each_layer_prefers(newer):
    models, host = newer
    assert len(attention_preferences(models[0].model.diffusion_model, "attn2")) == len(layers(models[0])) // 2
    source = alone(models, SOURCE)
    assert None not in host.preferred
    host.preferred.clear()
    first, edited = edit(models, SOURCE, [TARGET])
    assert host.preferred and None not in host.preferred, "a plain call of ours forgot the layer's preference"
    assert torch.equal(first, source), "the source is not that of a solo run"
    closed = edit(models, SOURCE, [TARGET], cross_end=0.0, self_end=0.0)[1]
    assert torch.equal(closed, alone(models, TARGET)) and not torch.equal(edited, closed)
    assert torch.equal(*edit(models, SOURCE, [SOURCE], cross_end=1.0, self_end=1.0, self_downsample=1))


def test_watching_a_word_leaves_the_bits(newer):
    models, _ = newer
    watched, maps = watch.watched(models[0], "<A*>", 1, 2)
    assert torch.equal(alone(models, TARGET), alone((watched, *models[1:]), TARGET))
    assert bool(maps.average(None).isfinite().all())


@pytest.mark.parametrize("with_containers", [False, True])
@pytest.mark.parametrize("ours_first", [False, True])
def test_an_override_that_is_always_there(newer, with_containers, ours_first):
    """ModelAttentionBackend installs one whatever is chosen; such an override may take tensors in their containers."""
    models, host = newer

    def backend(function, q, k, v, heads, *args, **kwargs):
        return attention.attention_pytorch(0.8 * q, k, v, heads)

    if with_containers:
        backend.container_function = lambda function, q, k, v, heads, *args, **kwargs: backend(
            function, *map(taken, (q, k, v)), heads
        )
    other = models[0].clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = backend
    if ours_first:
        other = prompt_to_prompt.patched(models[0])
        other.model_options["transformer_options"]["optimized_attention_override"] = backend
    first, edited = edit(models, SOURCE, [TARGET], model=other)
    assert torch.equal(first, alone(models, SOURCE, model=other))
    assert not torch.equal(first, alone(models, SOURCE)), "the override acts"
    assert torch.equal(
        edit(models, SOURCE, [TARGET], model=other, cross_end=0.0, self_end=0.0)[1], alone(models, TARGET, model=other)
    )
    assert not torch.equal(first, edited)
    assert bool(host.contained) == with_containers


def test_training_takes_an_attention_with_a_backward(newer, forgetful):
    """What a quantised checkpoint prefers may have none."""
    models, host = newer

    def no_backward(q, k, v, heads):
        raise AssertionError("an attention without a backward was used")

    for layer in layers(models[0]):
        layer.comfy_attention.function = no_backward
    config = AdaptConfig(steps=2, learning_rate=0.02, resolution=64, evaluate_every=2, held_out=2)
    with torch.inference_mode():
        done = training.train(*models, micro.sound()[None], [micro.pictures()], config)
    assert len(done.losses) == 2 and not any(host.preferred)
