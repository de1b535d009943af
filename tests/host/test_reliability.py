"""Short forms of `dev.py soak`, `chaos` and `fuzz`, and the rulers that they measure with."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from aai_pack.devtools.server import Workspace
from aai_pack.lab.reliability import chaos, curves, flags, fuzz, jobs, measure, mutate, prompts, soak
from aai_pack.lab.reliability.forked import ForkedHost
from aai_pack.lab.reliability.serving import Served, prepared, write_photos
from PIL import Image


@pytest.fixture(scope="module")
def at(server, workspace, client):
    prepared(workspace)
    return Served(server, workspace, client)


def test_a_slope_is_told_from_noise():
    noise = np.random.default_rng(0).normal(0, 5, 800)
    flat, rising = measure.slope(list(500 + noise)), measure.slope(list(500 + noise + 0.1 * np.arange(800)))
    assert flat.is_flat or flat.grown < soak.GROWS
    assert not rising.is_flat and abs(rising.per_thousand - 100) < 3 * rising.noise
    warm_up = measure.slope([100.0] * 160 + list(500 + noise[160:]))
    assert warm_up.grown < soak.GROWS or warm_up.is_flat, "what a server loads at its start is no leak"


def test_a_short_soak(at, tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "SAMPLE", ("02 Saved word", "03 Look at sound", "05 Another sound"))
    monkeypatch.setattr(soak, "PICTURES", 4)
    at.run(prompts.example("01 Sound to picture"))  # the word that example 2 loads
    found = soak.soak(at, 6.0)
    # Over so few prompts the work of a busy machine's processor says nothing.
    assert [text for text in found.findings if "work grows" not in text] == []
    assert all(len(part.seconds) >= 1 for part in found.parts)
    curves.draw(found, tmp_path / "soak.png")
    with Image.open(tmp_path / "soak.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**16)) > 5


def test_a_short_soak_sees_what_is_left_behind(at):
    (at.workspace.output / "soak-batch").mkdir(exist_ok=True)
    before = measure.files(at.workspace.root)
    path = at.workspace.output / "soak-batch" / f".a-{'0' * 32}.partial"
    path.touch()
    try:
        assert measure.half_written(measure.files(at.workspace.root) - before) == [f"output/soak-batch/{path.name}"]
    finally:
        path.unlink()


def test_a_server_that_was_started_otherwise(host, monkeypatch):
    together = "--use-split-cross-attention --cache-none --disable-metadata --deterministic"
    monkeypatch.setattr(flags, "OPTIONS", {"some": (together, "--no-such-option"), "others": ("",)})
    (row,) = flags.flags(host, "some", ("01 Sound to picture",))
    assert (row.options, row.ran, row.findings) == (together, 2, []) and max(row.source, row.closed) < 1e-4


@pytest.mark.skipif(sys.platform == "win32", reason="copies of a process")
def test_a_few_kills(host):
    with Workspace() as workspace:
        prepared(workspace)
        write_photos(workspace.input / chaos.PHOTOS, 2)
        kinds = [job for job in jobs.jobs(chaos.PHOTOS) if job.name in ("saving", "library")]
        with ForkedHost(host, workspace) as forked:
            tallies = chaos.kill_copies(forked, kinds, 1, 1.0)
    assert [tally.findings for tally in tallies] == [[], []]
    assert all(tally.tried and tally.ended == 1 for tally in tallies)


def test_a_few_cancels(at, monkeypatch):
    kinds = {"training": prompts.training(20), "edit": prompts.example("07 Sound in a scene")}
    monkeypatch.setattr(chaos, "_cancelled_kinds", lambda at: kinds)
    tallies = chaos.cancels(at, 2, 30.0)
    assert [tally.findings for tally in tallies] == [[], []]
    assert [tally.ended for tally in tallies] == [1, 1]


def test_damage_is_the_same_for_the_same_seed():
    data, header = bytes(range(256)), b'{"__metadata__": {"a": "{}"}, "x": {"shape": [1]}}'
    tensors = len(header).to_bytes(8, "little") + header + bytes(4)
    for change in (
        lambda rng: mutate.damaged(data, rng, data),
        lambda rng: mutate.odd_safetensors(tensors, rng),
        mutate.odd_text,
    ):
        results = [[change(random.Random(seed)) for seed in range(50)] for _ in range(2)]
        assert results[0] == results[1] and len(set(results[0])) > 20


def test_a_few_damaged_files_and_odd_texts():
    found = fuzz.Fuzz()
    fuzz.fuzz_files(found, 90, seed=20)
    assert found.findings == []
    assert sum(n["refused"] for n in found.outcomes.values()) > 20, "nothing was damaged"
    assert sum(n["read"] for n in found.outcomes.values()) > 10, "nothing was read"


def test_a_few_workflows_with_wrong_values(at, monkeypatch):
    monkeypatch.setattr(fuzz, "EXAMPLES", ("03 Look at sound",))
    found = fuzz.Fuzz()
    fuzz.fuzz_workflows(found, at, 12, seed=20)
    assert found.findings == []


def test_a_reader_that_does_more_than_read_is_a_fault(tmp_path):
    from aai_pack.lab.reliability.fuzz_child import _outcome

    class Calm:
        seen = ["os.system ('touch x',)"]

        def on(self):
            import contextlib

            return contextlib.nullcontext()

    assert _outcome(Calm(), lambda given: None, (), None)["outcome"] == "fault"
    assert _outcome(Calm(), lambda given: {}["x"], (), None)["outcome"] == "fault"
    refused = _outcome(Calm(), lambda given: (_ for _ in ()).throw(ValueError("no sound")), (ValueError,), None)
    assert refused == {"outcome": "fault", "why": "os.system ('touch x',)"}
