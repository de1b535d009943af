"""What only a device of its own shows: memory that really runs out, and two devices whose tensors do not mix.

Part of `dev.py test --device emulated` alone; `devtools/emulated` is the device.
"""

from __future__ import annotations

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import memory, training
from aai_pack.nodes.host.adapt.frozen import frozen
from aai_pack.nodes.host.adapt.preview import Options
from aai_pack.nodes.host.base import folders
from aai_pack.nodes.host.inject import loudness, prompt_to_prompt, source_memory, watch
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_devices import regions
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, edit
from aai_pack.tests.host.test_training import state_of
from aai_pack.tests.host.test_training_memory import train

pytestmark = pytest.mark.usefixtures("forgetful")
MOST = 64 * 2**30


@pytest.fixture
def models():
    return micro.build()


@pytest.fixture(autouse=True)
def nothing_left(models):
    """Each test begins with what it loads itself, and gives back what it took. As the host does it on Unload Models:
    outside of inference mode."""
    mm.unload_all_models()
    before = torch.xpu.memory_allocated()
    yield
    torch.xpu.set_capacity(MOST)
    mm.unload_all_models()
    assert torch.xpu.memory_allocated() == before


def peak_of(work) -> tuple[object, int]:
    """(result, bytes beyond what was taken before) of `work()`, at its most."""
    before = torch.xpu.memory_allocated()
    torch.xpu.reset_peak_memory_stats()
    result = work()
    return result, torch.xpu.max_memory_allocated() - before


def values_of(models) -> list[tuple]:
    """Every weight and its flag, wherever it lies now."""
    return [entry[:3] for entry in state_of(models)]


def test_the_host_computes_there(client):
    assert mm.get_torch_device() == torch.device("xpu", 0)
    assert [device["type"] for device in client.get("/system_stats")["devices"]] == ["xpu"]


class TestMemory:
    @pytest.fixture
    def ways(self, monkeypatch) -> list[str]:
        """The ways that trainings go on to, after the fastest: the host's estimate foresees nothing."""
        taken, less = [], memory.StepMemory.less

        def noted(self):
            less(self)
            taken.append(self.way)

        monkeypatch.setattr(memory.StepMemory, "less", noted)
        monkeypatch.setattr(memory, "PLAIN", 0)
        return taken

    def test_a_step_that_does_not_fit_is_done_again_in_less(self, models, ways):
        settings = {"resolution": 256, "batch_size": 4}
        train(models, **settings)
        before, loaded = values_of(models), torch.xpu.memory_allocated()
        expected, most = peak_of(lambda: train(models, **settings, seed=1))
        _, least = peak_of(lambda: train(models, Options(low_memory=True), **settings, seed=2))
        del ways[:]
        torch.xpu.set_capacity(loaded + (most + least) // 2)
        found = train(models, **settings, seed=1, held_out=3)
        assert ways == ["recompute"]
        difference = found.token.vectors["clip_l"] - expected.token.vectors["clip_l"]
        assert float(difference.norm() / expected.token.vectors["clip_l"].norm()) < 1e-3
        assert values_of(models) == before

    def test_one_that_fits_in_no_way_is_a_sentence_and_goes_on_later(self, models, ways, own_folders, monkeypatch):
        """Two steps before memory runs short; the same training ends in the word that it would have been."""
        settings = {"resolution": 256, "batch_size": 4, "seed": 3}
        expected = train(models, **settings)
        before, steps = values_of(models), []
        monkeypatch.setattr(folders, "trainings_folder", lambda: own_folders / "again")

        def short(self):
            steps.append(1)
            if len(steps) == 3:
                torch.xpu.set_capacity(torch.xpu.memory_allocated() * 3 // 4)
            return step(self)

        step = training.AdapterTrainer._train_one_step
        monkeypatch.setattr(training.AdapterTrainer, "_train_one_step", short)
        with pytest.raises(TrainingError, match="memory"):
            train(models, Options(checkpoint_every=1), **settings)
        assert ways == ["recompute", "release"]
        monkeypatch.setattr(training.AdapterTrainer, "_train_one_step", step)
        torch.xpu.set_capacity(MOST)
        assert values_of(models) == before
        found = train(models, **settings)
        assert torch.equal(found.token.vectors["clip_l"], expected.token.vectors["clip_l"])


class TestNoVram:
    """ComfyUI's --novram leaves weights in RAM, whatever is free; a training needs them on the device."""

    @pytest.fixture(autouse=True)
    def novram(self, monkeypatch):
        monkeypatch.setattr(mm, "vram_state", mm.VRAMState.NO_VRAM)

    def test_a_training_is_the_same_and_leaves_nothing_on_the_device(self, models, monkeypatch):
        with monkeypatch.context() as normal:
            normal.setattr(mm, "vram_state", mm.VRAMState.NORMAL_VRAM)
            expected = train(models)
        mm.unload_all_models()
        picture, values, before = edit(models, SOURCE, [TARGET])[1], values_of(models), torch.xpu.memory_allocated()
        found = train(models)
        assert found.losses == expected.losses
        assert torch.xpu.memory_allocated() <= before and values_of(models) == values
        assert torch.equal(edit(models, SOURCE, [TARGET])[1], picture)

    def test_what_does_not_fit_is_a_sentence_and_leaves_nothing(self, models):
        before = torch.xpu.memory_allocated()
        torch.xpu.set_capacity(before + models[0].model_size() // 2)
        with (
            pytest.raises(TrainingError, match=r"more than the available memory.*use a smaller one"),
            frozen(*models[:2]),
        ):
            pass
        assert torch.xpu.memory_allocated() <= before


def region_edit(models, model, **settings):
    """(source, edit, maps) of an edit with all that looks at attention: maps, a local blend, a scale, two regions."""
    with torch.inference_mode():
        target = loudness.scaled(regions(models, TARGET), "<A*>", 1.5, 0.0, 1.0, "own")
        patched, maps = watch.watched(loudness.patched(prompt_to_prompt.patched(model)), "sky, <A*>", 2, 2)
    blend = {"blend_words": "<A*>, sea", "blend_threshold": 0.9}
    source, edited = edit(models, regions(models, SOURCE), [target], model=patched, **blend, **settings)
    return source, edited, maps.average()


def test_an_edit_whose_source_finds_no_room_on_the_device(models, monkeypatch):
    """Attention of the source lies in RAM then, or is computed again: the same bits."""
    places, scarce, begin = [], [], source_memory.AttentionBank.begin

    def noted(self, sigma, size, step):
        if scarce and not places:  # less than the host believes a step to take, and as much as it takes
            torch.xpu.set_capacity(torch.xpu.memory_allocated() + int(0.9 * step))
        call = begin(self, sigma, size, step)
        places.append(call.place)
        return call

    monkeypatch.setattr(source_memory.AttentionBank, "begin", noted)
    plain = region_edit(models, models[0])
    assert set(places) == {"device"}
    scarce.append(True)
    for memory_of_source in ("auto", "ram", "recompute"):
        torch.xpu.set_capacity(MOST)
        del places[:]
        found = region_edit(models, models[0], memory=memory_of_source)
        assert set(places) == {"ram" if memory_of_source == "auto" else memory_of_source}
        for one, other in zip(plain, found, strict=True):
            if memory_of_source == "recompute":  # in a batch of another size, which rounds otherwise
                assert (one - other).norm() < 1e-5 * one.norm()
            else:
                assert torch.equal(one, other), memory_of_source


@pytest.fixture
def two_devices():
    torch.xpu.set_device_count(2)
    yield [torch.device("xpu", 0), torch.device("xpu", 1)]
    mm.unload_all_models()
    torch.xpu.set_device_count(1)


class TestTwoDevices:
    """The host's own nodes for two cards."""

    def test_an_edit_with_the_prompts_on_both(self, models, two_devices):
        multigpu = pytest.importorskip("comfy_extras.nodes_multigpu")
        one = region_edit(models, models[0])
        with torch.inference_mode():
            split = multigpu.MultiGPUCFGSplitNode.execute(models[0], 2)[0]
        torch.xpu.reset_peak_memory_stats(1)
        two = region_edit(models, split)
        assert torch.xpu.max_memory_allocated(1) > torch.xpu.memory_allocated(1)
        size = (one[1] - one[0]).norm()
        assert (one[0] - two[0]).norm() < 1e-4 * size and (one[1] - two[1]).norm() < 1e-4 * size
        assert torch.allclose(one[2], two[2], rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize(("what", "place"), [("model", "gpu:1"), ("clip", "gpu:1"), ("clip", "cpu")])
    def test_a_training_with_model_and_text_encoder_apart(self, models, two_devices, what, place):
        multigpu = pytest.importorskip("comfy_extras.nodes_multigpu")
        expected = train(models)
        with torch.inference_mode():
            if what == "model":
                apart = (multigpu.SelectModelDeviceNode.execute(models[0], place)[0], *models[1:])
            else:
                apart = (models[0], multigpu.SelectCLIPDeviceNode.execute(models[1], place)[0], models[2])
        place_of = {"gpu:1": torch.device("xpu", 1), "cpu": torch.device("cpu")}[place]
        assert (apart[0] if what == "model" else apart[1].patcher).load_device == place_of
        found = train(apart, steps=5)
        assert found.losses[0] == pytest.approx(expected.losses[0], rel=1e-4)
