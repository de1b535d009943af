"""Word maps and sheets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from aai_pack.aai_models.errors import EditError
from aai_pack.nodes.host.inject import edits, prompt_to_prompt, sheets, watch
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, empty, encode, sample


@pytest.fixture(scope="module")
def models():
    return micro.build()


def test_watching_changes_no_bit(models):
    model, _ = watch.watched(models[0], "<A*>, beach", 1, 2)
    assert torch.equal(alone(models, TARGET, model=model), alone(models, TARGET))


@pytest.mark.parametrize("ours_first", [True, False])
def test_watching_an_edit_changes_no_bit(models, ours_first):
    base = prompt_to_prompt.patched(models[0]) if ours_first else models[0]
    model, maps = watch.watched(base, "beach", 1, 2)
    everything = {"cross_end": 1.0, "self_end": 1.0, "self_downsample": 1}
    assert torch.equal(*edit(models, SOURCE, [SOURCE], model=model, **everything))
    for one, other in zip(edit(models, SOURCE, [TARGET], model=model), edit(models, SOURCE, [TARGET]), strict=True):
        assert torch.equal(one, other)
    assert maps.average().shape[0] == 2


def test_maps_of_words_are_those_of_the_attention(models):
    model, maps = watch.watched(models[0], "<A*>, beach, sea", 2, 2)
    alone(models, TARGET, model=model, latent=empty(2))
    average = maps.average()
    assert average.shape == (2, 3, 4, 6)
    assert bool((average > 0).all()) and bool((average < 1).all())
    whole = sum(maps.sums.values()) / sum(maps.counts.values())
    assert torch.allclose(average, whole)


def test_all_words_together_are_the_whole_attention(models):
    with torch.inference_mode():
        cond = encode(models, TARGET)
    cond[0][1]["aai_tokens"] = replace(cond[0][1]["aai_tokens"], columns={1: tuple(range(77))}, texts=("",) * 77)
    model, maps = watch.watched(models[0], "<A*>", 1, 2)
    alone(models, cond, model=model)
    assert torch.allclose(maps.average(), torch.ones(1, 1, 4, 6), atol=1e-5)


def test_the_maps_of_an_area_lie_where_it_is(models):
    """Of a prompt for the lower right quarter; the whole picture's prompt does not hold the word."""
    with torch.inference_mode():
        area = {"area": (4, 6, 4, 6), "strength": 1.0, "set_area_to_bounds": False}
        part = [[cond, {**extra, **area}] for cond, extra in encode(models, "a sea")]
        model, maps = watch.watched(models[0], "sea", 1, 2)
        alone(models, part + encode(models, "sky"), model=model)
        average = maps.average()[0, 0]
    assert average.shape == (4, 6) and bool((average[2:, 3:] > 0).all())
    assert not average[:2].any() and not average[:, :3].any()


def test_a_second_run_begins_anew(models):
    model, maps = watch.watched(models[0], "<A*>", 1, 2)
    alone(models, TARGET, model=model)
    first = maps.average().clone()
    alone(models, TARGET, model=model)
    assert torch.equal(first, maps.average())


def test_branches_of_an_edit_have_maps_of_their_own(models):
    model, maps = watch.watched(models[0], "sea", 1, 2)
    with torch.inference_mode():
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], edits.EditSettings(cross_end=0.0), 1)
        latent = branch_latent(empty(), 2)
        sample(prompt_to_prompt.patched(model), planned, encode(models, "blurry"), latent)
    average = maps.average()
    assert average.shape[0] == 2 and not torch.equal(average[0], average[1])


def test_no_run_no_maps(models):
    _, maps = watch.watched(models[0], "<A*>", 1, 2)
    with pytest.raises(EditError, match="no maps yet"):
        maps.average()
    with pytest.raises(EditError, match="No words"):
        watch.watched(models[0], " , ", 1, 2)


def test_sheets(models):
    model, maps = watch.watched(models[0], "<A*>, beach", 2, 2)
    alone(models, TARGET, model=model, latent=empty(2))
    images = torch.rand(2, 64, 96, 3)
    overlays, masks, sheet = sheets.heat_maps(maps, images, 0.8)
    assert overlays.shape == (4, 64, 96, 3) and masks.shape == (4, 64, 96)
    assert masks.amax() == 1.0 and sheet.shape[0] == 1
    with pytest.raises(EditError, match="2 pictures and 3"):
        sheets.heat_maps(maps, torch.rand(3, 64, 96, 3), 0.8)
    untouched, _, _ = sheets.heat_maps(maps, images, 0.0)
    assert torch.allclose(untouched[0], images[0], atol=1 / 255)


def test_edit_sheets():
    images = torch.rand(4, 32, 32, 3)
    assert sheets.edit_sheet(images, 2, ["a sea", "a storm"], 1.5, torch.rand(1, 64, 64, 3)).shape[0] == 1
    maps = watch.WordMaps(("sea",), 1, 2)
    maps.add(0, 0, torch.rand(2, 1, 4, 4))
    maps.add(1, 0, torch.rand(2, 1, 4, 4))
    wider = sheets.edit_sheet(images, 2, [], None, None, maps)
    assert wider.shape[2] > sheets.edit_sheet(images, 2, [], None, None).shape[2]
    with pytest.raises(EditError, match="do not divide into a source"):
        sheets.edit_sheet(images[:3], 2, [], None, None)


def test_loudness_strips():
    strip = sheets.loudness_strip([torch.rand(1, 32, 32, 3), torch.rand(2, 32, 48, 3)], [0.0, 1.0, 2.0])
    assert strip.shape[0] == 1 and strip.shape[2] > 3 * sheets.SHEET_SIDE
    with pytest.raises(EditError, match="1 pictures and 2 scales"):
        sheets.loudness_strip([torch.rand(1, 32, 32, 3)], [0.0, 1.0])
