"""Where the source's attention is kept: by what is free, the same result everywhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from aai_pack.nodes.host.inject import source_memory
from aai_pack.nodes.host.inject.source_memory import AttentionBank, Call
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, STEPS, TARGET, edit, empty


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def precise():
    """Models that compute in double precision, see test_prompt_to_prompt.py."""
    return micro.build(weights=torch.float64)


def test_places_of_the_bank_give_the_same_bits(models, monkeypatch):
    noted, edits = noted_calls(monkeypatch), {}
    for memory in ("device", "ram"):
        noted.clear()
        source, edits[memory] = edit(models, SOURCE, [TARGET], memory=memory)
        assert noted and {call.place for _, call in noted} == {memory}
        assert not torch.equal(source, edits[memory])
    assert torch.equal(edits["device"], edits["ram"])


def test_recompute_is_the_same_relative_to_the_edit(precise):
    source, stored = edit(precise, SOURCE, [TARGET])
    again_source, again = edit(precise, SOURCE, [TARGET], memory="recompute")
    assert torch.equal(source, again_source)
    assert (again - stored).norm() < 1e-4 * (stored - source).norm()


def noted_calls(monkeypatch) -> list[tuple[int, Call]]:
    """(bytes that were expected, the call) of each call of the source from now on."""
    begin, noted = AttentionBank.begin, []

    def note(bank, sigma, expected, step):
        noted.append((expected, begin(bank, sigma, expected, step)))
        return noted[-1][1]

    monkeypatch.setattr(AttentionBank, "begin", note)
    return noted


def kept_bytes(call: Call) -> int:
    return sum(x.numel() * x.element_size() for pairs in call.layers.values() for pair in pairs for x in pair)


def storage_bytes(call: Call) -> int:
    """What is really held, of each storage once."""
    held = {}
    for pairs in call.layers.values():
        held |= {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for pair in pairs for x in pair}
    return sum(held.values())


@pytest.mark.parametrize("latent", [empty(), empty(2, 7, 11)], ids=["even", "odd"])
@pytest.mark.parametrize("settings", [{}, {"self_downsample": 1}, {"cross_end": 0.3, "self_end": 0.7}], ids=str)
def test_the_banks_bytes_are_known_before_they_are_kept(models, monkeypatch, latent, settings):
    noted = noted_calls(monkeypatch)
    edit(models, SOURCE, [TARGET], latent=latent, **settings)
    assert len(noted) == STEPS and noted[0][0] > 0
    assert [kept_bytes(call) for _, call in noted] == [expected for expected, _ in noted]
    assert [storage_bytes(call) for _, call in noted] == [expected for expected, _ in noted], "no view of a whole batch"


@pytest.mark.cpu_only(reason="a GPU has a place between its own memory and computing again")
def test_what_does_not_fit_is_computed_again(precise, monkeypatch):
    everything = {"cross_end": 1.0, "self_end": 1.0}
    source, stored = edit(precise, SOURCE, [TARGET], **everything)
    noted = noted_calls(monkeypatch)
    edit(precise, SOURCE, [TARGET], **everything)
    # Room for two calls and a half, besides what the host itself takes for a step of both prompts.
    step = source_memory.HOST_MARGIN * precise[0].model.memory_required([2, 4, 8, 12])
    monkeypatch.setattr(source_memory, "SHARE", 1.0)
    expected = noted[0][0]
    monkeypatch.setattr(source_memory, "mm", SimpleNamespace(get_free_memory=lambda device: 2.5 * expected + step))
    noted.clear()
    again_source, again = edit(precise, SOURCE, [TARGET], **everything)
    assert [call.place for _, call in noted] == ["ram"] * 2 + ["recompute"] * (STEPS - 2)
    assert torch.equal(source, again_source)
    assert (again - stored).norm() < 1e-4 * (stored - source).norm()
