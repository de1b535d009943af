"""A real ComfyUI for the whole run: servers over HTTP, and the same ComfyUI in this process for exact comparisons."""

from __future__ import annotations

import uuid

import pytest
from aai_pack.devtools import device


def _move_weights() -> None:
    """Move each model's weights whenever the host loads it, as a GPU's host does; a test double, for this process alone.

    What is moved is new storage under the same parameters, made in whichever mode the load runs.
    """
    import comfy.model_patcher

    load = comfy.model_patcher.ModelPatcher.load

    def load_and_move(self, *args, **kwargs):
        result = load(self, *args, **kwargs)
        if not getattr(self.model, "aai_was_moved", False):
            self.model.aai_was_moved = True
            for parameter in self.model.parameters():
                parameter.data = parameter.data.clone()
        return result

    comfy.model_patcher.ModelPatcher.load = load_and_move


def _compute_precisely() -> None:
    """Convolutions of float32 in float32, not in the ten bits of TF32 that a GPU takes by itself: tests compare closely."""
    import torch

    torch.backends.cudnn.allow_tf32 = False


def _require_device() -> None:
    """A host that does not find the device that the run is for computes on something else and says nothing."""
    import comfy.model_management

    found = comfy.model_management.get_torch_device().type
    if found != device.TYPES[device.current()]:
        pytest.exit(f"The run is for {device.current()}, and ComfyUI computes on {found}", returncode=2)


def pytest_configure(config):
    if not _runs_tests(config):
        return
    from aai_pack.devtools import in_process
    from aai_pack.devtools.server import Workspace

    config.aai_process_workspace = Workspace()
    config.aai_weights = in_process.boot(config.aai_process_workspace.root)
    if device.current() == "cpu":
        _move_weights()
    else:
        _compute_precisely()
    _require_device()


def _runs_tests(config) -> bool:
    """False in the process that only hands tests to others."""
    return hasattr(config, "workerinput") or not config.getoption("numprocesses", None)


def pytest_report_header(config):
    if not _runs_tests(config):
        return None
    return f"ComfyUI computes on {device.current()}, its weights are {config.aai_weights}"


def pytest_collection_modifyitems(config, items):
    """On a GPU, leave out what is true of a processor alone, and where weights are streamed what is true of whole ones."""
    absent = ["cpu_only"] if device.current() != "cpu" else []
    absent += ["whole_weights"] if getattr(config, "aai_weights", "") == "dynamic" else []
    for item in items:
        for marker in filter(None, map(item.get_closest_marker, absent)):
            item.add_marker(pytest.mark.skip(reason=marker.kwargs["reason"]))


def pytest_unconfigure(config):
    if _runs_tests(config):
        config.aai_process_workspace.close()


def _prepare(workspace, recordings):
    from aai_pack.devtools.stand_in import install

    return install(workspace, recordings)


@pytest.fixture(scope="session")
def workspace(recordings):
    """Folders of the server under test, with the stand-in models, pictures and recordings; runs shorter than the demo's."""
    from dataclasses import replace

    from aai_pack.devtools.server import Workspace

    with Workspace() as workspace:
        stand_ins = _prepare(workspace, recordings)
        workspace.stand_ins = replace(stand_ins, steps=8, resolution=64, sampler_steps=3)
        yield workspace


@pytest.fixture(scope="session")
def server(host, workspace):
    from aai_pack.devtools.server import Server

    with Server(host, workspace) as server:
        yield server
        assert server.alive, f"The server died during the tests.\n{server.tail()}"


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """Trainings and tokens of a test lie in its own folder."""
    from aai_pack.nodes.host.base import folders

    monkeypatch.setattr(folders, "trainings_folder", lambda: tmp_path / "trainings")
    monkeypatch.setattr(folders, "partial_tokens_folder", lambda: tmp_path / "tokens")
    return tmp_path


@pytest.fixture
def forgetful(own_folders, monkeypatch):
    """Each training has a folder of its own, so that none gives the stored result of another."""
    from aai_pack.nodes.host.base import folders

    monkeypatch.setattr(folders, "trainings_folder", lambda: own_folders / "trainings" / uuid.uuid4().hex)


@pytest.fixture(scope="session")
def client(server):
    from aai_pack.devtools.client import Client

    return Client(server.url)


@pytest.fixture(scope="session")
def stand_ins(workspace):
    return workspace.stand_ins


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the end of the server's log under a test that failed."""
    outcome = yield
    report = outcome.get_result()
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and server is not None:
        report.sections.append(("ComfyUI's log", server.tail(60)))
