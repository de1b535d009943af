"""Editing, loudness and word maps on small models of SD2's and SDXL's classes."""

from __future__ import annotations

import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import EditError
from aai_pack.nodes.host.base import patches
from aai_pack.nodes.host.base import prompt_words as prompts
from aai_pack.nodes.host.inject import edits, loudness, photo, watch
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit
from aai_pack.tests.host.test_source_memory import kept_bytes, noted_calls
from comfy.ldm.flux.model import FluxParams

FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 8,
    "context_in_dim": 8,
    "hidden_size": 32,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": False,
    "txt_ids_dims": [],
}
EVERYTHING = {"cross_end": 1.0, "self_end": 1.0, "self_downsample": 1}


@pytest.fixture(scope="module", params=["sd2", "sdxl"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def models(family):
    return micro.build(family)


@pytest.fixture
def encoded(models, family):
    """A prompt with a word of this family's widths."""
    generator = torch.Generator().manual_seed(100)
    widths = micro.WIDTHS[family].items()
    rows = {key: 0.4 * torch.randn(1, width, generator=generator) / width**0.5 for key, width in widths}
    word = AudioToken(micro.sound(), rows, dict.fromkeys(rows, 0.4))

    def encode(text):
        with torch.inference_mode():
            return prompts.encode(models[1], text, {1: word})

    return encode


def test_edits_are_exact(models, encoded):
    source, target = edit(models, encoded(SOURCE), [encoded(TARGET)])
    stock = alone(models, encoded(TARGET))
    assert torch.equal(source, alone(models, encoded(SOURCE)))
    assert not torch.equal(target, stock) and bool(torch.isfinite(target).all())
    assert torch.equal(edit(models, encoded(SOURCE), [encoded(TARGET)], cross_end=0.0, self_end=0.0)[1], stock)
    assert torch.equal(*edit(models, encoded(SOURCE), [encoded(SOURCE)], **EVERYTHING))


def test_the_banks_bytes_are_known_before_they_are_kept(models, encoded, monkeypatch):
    noted = noted_calls(monkeypatch)
    edit(models, encoded(SOURCE), [encoded(TARGET)])
    assert [kept_bytes(call) for _, call in noted] == [expected for expected, _ in noted]


def test_a_word_is_replaced(models, encoded):
    result = edit(models, encoded("a photo of a dog"), [encoded("a photo of a <A*>")], controller="AttentionReplace")
    assert not torch.equal(*result)


def test_loudness_acts_the_same_on_both_routes(models, encoded):
    plain = alone(models, encoded(TARGET))
    with torch.inference_mode():
        marked = loudness.scaled(encoded(TARGET), "<A*>", 2.0, 0.0, 1.0, "own")
        on_model = alone(models, marked, model=loudness.patched(models[0]))
        on_conditioning = alone(models, loudness.hooked(marked))
    assert not torch.equal(on_model, plain)
    assert (on_model - on_conditioning).norm() < 1e-3 * (on_model - plain).norm()


def test_word_maps(models, encoded):
    model, maps = watch.watched(models[0], "<A*>, beach", 1, 2)
    assert torch.equal(alone(models, encoded(TARGET), model=model), alone(models, encoded(TARGET)))
    assert maps.average().shape == (1, 2, 4, 6)


@pytest.mark.parametrize("method", ["virtual", "direct"])
def test_a_photo_comes_back_exactly(models, encoded, method):
    given = {"samples": torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(4))}
    results = edit(models, photo.tagged(encoded(SOURCE), method), [encoded(SOURCE)], given)
    assert all(torch.equal(result, given["samples"]) for result in results)
    assert not torch.equal(*edit(models, photo.tagged(encoded(SOURCE), method), [encoded(TARGET)], given))


def test_a_family_without_attention_to_words_is_refused():
    known = FluxParams.__dataclass_fields__  # the host's older version lacks one
    config = {key: value for key, value in FLUX.items() if key in known or key == "image_model"}
    with torch.inference_mode():
        network = comfy.supported_models.Flux(config).get_model({}, "", device="cpu")
        model = comfy.model_patcher.ModelPatcher(network, micro.CPU, micro.CPU)
    with pytest.raises(EditError, match="The model is a Flux"):
        patches.require_unet(model)


def test_source_and_target_of_different_families(encoded):
    with torch.inference_mode():
        target = prompts.encode(micro.build("sd15")[1], "a beach", {})
    with pytest.raises(EditError, match="values"):
        edits.plan(encoded(SOURCE), [target], edits.EditSettings(), 1)
