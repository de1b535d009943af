"""Trainings that are stopped in every way: cancelled anywhere, failed, killed outright."""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.nodes.host.adapt import training
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.adapt.preview import Options
from aai_pack.tests.host import graphs, micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_neighbours_of_training import ordinary
from aai_pack.tests.host.test_training import state_of

SMALL = AdaptConfig(steps=8, learning_rate=0.02, resolution=64, evaluate_every=3, held_out=2)


@pytest.fixture(scope="module")
def models():
    return micro.build()


pytestmark = pytest.mark.usefixtures("own_folders")


def train(models, options=None, **changes):
    config = replace(SMALL, **changes)
    with torch.inference_mode():
        return training.train(*models, micro.sound()[None], [micro.pictures()], config, options=options)


class Counter:
    """Raises `error` at the n-th moment at which a person's cancel could strike: an operation or a check."""

    def __init__(self, monkeypatch, at: int, error: type[BaseException]):
        self.count, self.at, self.error = 0, at, error
        evaluate, check = DiffusionLoss.__call__, mm.throw_exception_if_processing_interrupted

        def counted(loss, vectors, sample):
            self.strike()
            value = evaluate(loss, vectors, sample)
            self.strike()
            return value

        def checked():
            self.strike()
            check()

        monkeypatch.setattr(DiffusionLoss, "__call__", counted)
        monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", checked)

    def strike(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.error("stopped by a test")


MOMENTS = 30  # about as many as a whole run of `SMALL` has


@equal_trainings
@pytest.mark.parametrize(
    ("count", "error"),
    [
        (3, mm.InterruptProcessingException),
        (2, RuntimeError),
        pytest.param(100, mm.InterruptProcessingException, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_stop_anywhere_harms_nothing_and_loses_nothing(models, own_folders, monkeypatch, count, error):
    expected = train(models)
    (own_folders / "trainings").rename(own_folders / "aside")
    before, state = ordinary(models), state_of(models)
    moments = random.Random(count)
    for number in range(count):
        seed = number // 3  # three stops in a row of one run, which goes on each time
        with monkeypatch.context() as patch:
            counter = Counter(patch, moments.randint(1, MOMENTS), error)
            try:
                done = train(models, seed=seed)
            except error:
                done = None
        assert (done is None) == (counter.count >= counter.at)
        assert state_of(models) == state
        assert all(torch.equal(a, b) for a, b in zip(before, ordinary(models), strict=True))
    for path in (own_folders / "tokens").glob("*.safetensors") if (own_folders / "tokens").is_dir() else ():
        assert bool(AudioToken.load(path).vectors["clip_l"].isfinite().all())
    done = train(models)
    assert done.losses == expected.losses
    assert torch.equal(done.token.vectors["clip_l"], expected.token.vectors["clip_l"])


@equal_trainings
def test_a_full_disk_in_the_middle(models, own_folders, monkeypatch):
    """The checkpoint before stays whole, training goes on to its end, and the person is told once."""
    import safetensors.torch
    from aai_pack.aai_models.adapt import checkpoint

    expected = train(models)
    for path in (own_folders / "trainings").iterdir():
        path.unlink()
    calls, told, write = [], [], safetensors.torch.save_file

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) > 2:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        write(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)
    monkeypatch.setattr("aai_pack.nodes.host.adapt.run_files.tell", told.append)
    done = train(models, Options(checkpoint_every=1))
    assert torch.equal(done.token.vectors["clip_l"], expected.token.vectors["clip_l"])
    assert len([text for text in told if "No space left" in text]) == 1
    monkeypatch.setattr(checkpoint, "save_file", write)
    (path,) = (own_folders / "trainings").glob("*.safetensors")
    assert not list((own_folders / "trainings").glob("*.partial"))
    again = train(models)  # from step 2, where the disk was full
    assert again.losses == expected.losses and path.is_file()


def test_two_prompts_at_once(client, stand_ins):
    """Two people queue a training each on one server: both get their word and their sheet."""
    graphs_of = []
    for seed in (1, 2):
        graph = graphs.train(stand_ins, steps=1, seed=seed, name=f"person-{seed}")
        inputs = {"images": ["20", 3], "filename_prefix": f"sheet-{seed}"}
        graphs_of.append({**graph, "22": {"class_type": "SaveImage", "inputs": inputs}})
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(client.run, graphs_of))
    assert [run.status for run in runs] == ["success", "success"], [run.message for run in runs]
    words = [run.outputs["21"]["text"] for run in runs]
    assert words == [["embedding:person-1"], ["embedding:person-2"]]
    assert all(run.files("22") for run in runs)


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=[pytest.mark.slow, equal_trainings])])
def test_a_host_that_is_killed_goes_on(host, recordings, kills):
    """kill -9 while a step runs: the next host goes on from the last checkpoint, to the word of a run in one piece."""
    from aai_pack.devtools.client import Client
    from aai_pack.devtools.server import Server, Workspace
    from aai_pack.devtools.stand_in import install

    with Workspace() as workspace:
        stand_ins = install(workspace, recordings)
        checkpoints = workspace.root / "output" / "aai_training"
        graph = graphs.train(stand_ins, steps=25 * kills + 2, name="killed")
        for number in range(kills):
            with Server(host, workspace) as server:
                _kill_after(server, graph, step=25 * (number + 1) + 1)
            (path,) = checkpoints.glob("*.safetensors")
        with Server(host, workspace) as server:
            client = Client(server.url)
            run = client.run(graph)
            assert run.status == "success", run.message
            assert any("continues from step" in text for text in run.texts), run.texts
            assert min(run.progress("20")) == 25 * kills + 1, "nothing is trained twice but what was not kept"
            word = workspace.models / "embeddings" / "killed.safetensors"
            resumed = AudioToken.load(word)
            assert bool(resumed.vectors["clip_l"].isfinite().all())
            if kills > 1:
                path.unlink()
                graph["20"]["inputs"]["preset"] = "as_set"  # the host must not take its own cached result
                run = client.run(graph)
                assert run.status == "success", run.message
                assert min(run.progress("20")) == 1
                whole = AudioToken.load(word)
                assert torch.equal(resumed.vectors["clip_l"], whole.vectors["clip_l"])
                assert resumed.metadata == whole.metadata


def _kill_after(server, graph: dict, step: int) -> None:
    """Run `graph` until its training has reported `step`, then end the host as a power cut would."""
    from aai_pack.devtools.client import Client

    def kill(event) -> bool:
        if event["type"] == "progress" and event["data"].get("node") == "20" and event["data"]["value"] >= step:
            os.kill(server.pid, signal.SIGKILL)
        return False

    with pytest.raises(Exception):  # noqa: B017 (whatever a vanished server raises)
        Client(server.url).run(graph, on_event=kill)
