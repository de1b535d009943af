"""A server whose folders hold what the examples name, and ComfyUI's editor on it in a real browser."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def browser(request) -> str:
    """Path of a Chromium or Chrome; without one the tests are skipped, or fail where they were asked for."""
    from aai_pack.devtools.browser import NO_BROWSER, find_browser
    from aai_pack.devtools.hosts import DEFAULT_VERSION

    if request.config.getoption("--aai-host") != DEFAULT_VERSION:
        pytest.skip("the editor's copies are written for the default host")
    path = find_browser()
    if path is None:
        (pytest.fail if request.config.getoption("--aai-browser") else pytest.skip)(NO_BROWSER)
    return path


@pytest.fixture(scope="module")
def server(browser, host, recordings):
    """ComfyUI with the stand-in models, sounds and pictures under the names that the examples use."""
    from aai_pack.devtools import stand_in, workflows
    from aai_pack.devtools.server import Server, Workspace

    with Workspace() as workspace:
        found = stand_in.install(workspace, recordings)
        there = {
            "ckpt_name": workspace.models / "checkpoints" / found.checkpoint,
            "checkpoint": workspace.models / "cavt_mae" / found.cavt,
            "audio": workspace.input / found.sound,
            "image": workspace.input / found.references[0],
        }
        for name in workflows.names():
            for node in workflows.load_api(name).values():
                for slot, path in there.items():
                    named = node["inputs"].get(slot)
                    if isinstance(named, str) and not path.with_name(named).exists():
                        shutil.copy(path, path.with_name(named))
        stand_in.write_references(workspace.input / "photos", count=1)
        with Server(host, workspace) as server:
            yield server


@pytest.fixture(scope="module", params=["classic", "nodes_2"])
def editor(request, server, browser):
    from aai_pack.devtools.editor import Editor

    with Editor(server.url, browser, nodes_2=request.param == "nodes_2") as editor:
        yield editor
