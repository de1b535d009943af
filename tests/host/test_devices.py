"""Edits on other devices than a CPU: two at once, in threads as the host starts them, and one that holds no values to read."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import comfy.ldm.modules.attention as attention
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from aai_pack.aai_models.inject.attention import word_maps
from aai_pack.nodes.host.base.patches import plain_attention
from aai_pack.nodes.host.base.prompt_words import PromptWords
from aai_pack.nodes.host.base.rows import RowFinder
from aai_pack.nodes.host.inject import edits, loudness, prompt_to_prompt, source_memory, watch
from aai_pack.nodes.host.inject.injector import Injector
from aai_pack.nodes.host.inject.local_blend import LocalBlend
from aai_pack.nodes.host.inject.notices import Notices
from aai_pack.nodes.host.inject.opened import Opened
from aai_pack.nodes.host.inject.recorder import Recorder
from aai_pack.nodes.host.inject.source_memory import AttentionBank, Call
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, edit, encode
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture(scope="module")
def models():
    """In double precision: the host batches prompts otherwise on two devices, and what differs is then the rounding alone."""
    return micro.build(weights=torch.float64)


def on_two_devices(model):
    """A clone that samples as the host's MultiGPU does, each prompt on a device and in a thread of its own."""
    multigpu = pytest.importorskip("comfy.multigpu")
    if not hasattr(comfy.samplers, "_calc_cond_batch_multigpu"):
        pytest.skip("this host knows one device only")

    def sampled(executor, guider, sigmas, extra_args, *args, **kwargs):
        devices = [torch.device("cpu"), torch.device("cpu", 0)]
        pool = multigpu.MultiGPUThreadPool(devices)
        options = extra_args["model_options"]
        options |= {"multigpu_clones": dict.fromkeys(devices, guider.model_patcher), "multigpu_thread_pool": pool}
        try:
            return executor(guider, sigmas, extra_args, *args, **kwargs)
        finally:
            pool.shutdown()

    clone = model.clone()
    clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "test", sampled)
    return clone


def regions(models, prompt):
    left = [
        [cond, {**extra, "area": (8, 8, 0, 0), "strength": 1.0, "set_area_to_bounds": False}]
        for cond, extra in encode(models, prompt)
    ]
    return left + encode(models, "sky")


@pytest.mark.cpu_only(reason="both of its devices are the processor; test_on_a_device.py has two")
def test_two_devices_give_the_edit_of_one(models):
    """Source and edit, their maps, their local blend and a scale; two regions, so that a device has more than one prompt."""
    results = []
    for base in (models[0], on_two_devices(models[0])):
        with torch.inference_mode():
            target = loudness.scaled(regions(models, TARGET), "<A*>", 1.5, 0.0, 1.0, "own")
            model, maps = watch.watched(loudness.patched(prompt_to_prompt.patched(base)), "sky, <A*>", 2, 2)
        blend = {"blend_words": "<A*>, sea", "blend_threshold": 0.9}
        source, edited = edit(models, regions(models, SOURCE), [target], model=model, **blend)
        results.append((source, edited, maps.average()))
    one, two = results
    size = (one[1] - one[0]).norm()
    assert (one[0] - two[0]).norm() < 1e-4 * size and (one[1] - two[1]).norm() < 1e-4 * size
    assert torch.allclose(one[2], two[2], rtol=1e-3, atol=1e-6)


class Types(TorchDispatchMode):
    """Notes results on the meta device that a Mac's device cannot hold (float64) or computes badly (int64)."""

    def __init__(self):
        super().__init__()
        self.long: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        on_meta = isinstance(result, torch.Tensor) and result.device.type == "meta"
        if on_meta and result.dtype in (torch.float64, torch.int64):
            self.long.append(str(func))
        return result


META = torch.device("meta")  # a device of another type: what lies there cannot be read, and does not mix with others


def draw(*shape):
    return torch.randn(*shape, device=META, dtype=torch.float16)


def test_no_value_is_read_in_a_layer(models, monkeypatch):
    """A layer of the source and the same of its edit, beside a negative prompt: reading a value would raise here."""
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    with torch.inference_mode():
        settings = edits.EditSettings(blend_words="sea", reweight="beach: 2")
        planned = edits.plan(encode(models, SOURCE), [encode(models, TARGET)], settings, 1)
        ids = [uuid.uuid4() for _ in range(3)]
        finder = RowFinder()
        for identity, (cond, extra) in zip(ids, planned, strict=False):
            finder.entries[identity] = {**extra, "model_conds": {"c_crossattn": type("", (), {"cond": cond})}}
        opened = Opened(frozenset({(0.0, 0.8)}), cross=True, self_attention=True)
        bank, call = AttentionBank("device", META), Call(1.0, "device")
        recorder = Recorder(bank, finder, settings, Notices())
        injector = Injector(finder, settings, Notices())
        blend = LocalBlend(planned[0][1][edits.TAG], finder, Notices())
        injector.learn_source({0: finder.entries[ids[0]]})
        recorder.begin(call, opened)
        injector.begin(call, opened)
        common = {"n_heads": 4, "block": ("input", 1), "block_index": 0, "original_shape": [2, 4, 8, 12]}
        blend._size = (8, 12)
        with Types() as seen:
            for worker, identity in ((recorder, ids[0]), (injector, ids[1])):
                extra = {**common, "uuids": [ids[2], identity], "sigmas": torch.ones(2, device=META)}
                q, k, v = draw(2, 6, 32), draw(2, 77, 32), draw(2, 77, 32)
                blend.look(q, k, extra)
                assert worker.cross(plain_attention, q, k, v, extra).shape == q.shape
                assert worker.self_attention(plain_attention, q, q, q, extra).shape == q.shape
        assert len(call.layers) == 2 and blend.maps().shape == (1, 2, 3) and not seen.long


def test_maps_of_two_devices_are_not_added_there():
    maps = watch.WordMaps(("sea",), 1, 2)
    here, there = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4, device=META)
    for part in (here, there, here, there):
        maps.note(0, 0, part)
    assert [count for _, count in maps.running.values()] == [2, 2]
    del maps.running[META, 0, 0]
    maps.gather()
    assert torch.equal(maps.sums[0, 0], 2 * here) and maps.counts[0, 0] == 2 and not maps.running


def test_maps_of_words_need_no_long_types():
    with Types() as seen:
        maps = word_maps(draw(1, 6, 32), draw(1, 154, 32), 4, torch.zeros(77, 2, device=META))
        loudness.fitted(torch.ones(77), draw(2, 154, 32))
    assert maps.shape == (1, 6, 2) and maps.dtype == torch.float32 and not seen.long


@pytest.mark.parametrize(
    ("step", "places"),
    [(0.0, ["device"] * 5 + ["ram"] * 5), (900.0, ["device"] + ["ram"] * 5), (2000.0, ["ram"] * 5)],
)
def test_the_bank_leaves_the_host_its_step(monkeypatch, step, places):
    """Of 1000 bytes that are free in each place at most half are taken, and never what a step of the model needs."""
    monkeypatch.setattr(source_memory, "mm", SimpleNamespace(get_free_memory=lambda device: 1000.0))
    bank, found = AttentionBank("auto", "meta"), []
    q, k = torch.zeros(1, 9, 11, dtype=torch.uint8), torch.zeros(1, 0, 11, dtype=torch.uint8)
    for _ in (*places, "recompute"):
        call = bank.begin(1.0, 99, step)
        found.append(call.place)
        if call.place != "recompute":
            bank.store(call, ("cross",), q, k)
    assert found == [*places, "recompute"] and bank.recomputes


def test_words_of_a_prompt_are_a_plain_value(models):
    """Conditionings are copied shallowly by many nodes: what is noted is shared and cannot be written to."""
    known = PromptWords.of(encode(models, TARGET)[0][1])
    with pytest.raises(AttributeError):
        known.length = 1
    assert known.keep([3]).own == known.own | {3} and known.own == {4}
