"""A server as whoever has just installed the pack has it, and ComfyUI's editor on it in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def browser(request) -> str:
    """Path of a Chromium or Chrome; without one the tests are skipped, or fail where they were asked for."""
    from aai_pack.devtools.browser import NO_BROWSER, find_browser
    from aai_pack.devtools.hosts import DEFAULT_VERSION

    if request.config.getoption("--aai-host") != DEFAULT_VERSION and not request.config.getoption("--aai-browser"):
        pytest.skip("the editor of another host is opened where --browser asks for it")
    path = find_browser()
    if path is None:
        (pytest.fail if request.config.getoption("--aai-browser") else pytest.skip)(NO_BROWSER)
    return path


@pytest.fixture(scope="session")
def default_editor(request) -> None:
    """The test drives parts of the editor that front ends of older hosts have elsewhere."""
    from aai_pack.devtools.hosts import DEFAULT_VERSION

    if request.config.getoption("--aai-host") != DEFAULT_VERSION:
        pytest.skip("drives parts of the editor that front ends of older hosts have elsewhere")


@pytest.fixture(scope="module")
def workspace():
    """What a fresh install has: no model, no recording, and the one picture that comes with ComfyUI."""
    from aai_pack.devtools.server import Workspace

    with Workspace() as workspace:
        yield workspace


@pytest.fixture(scope="module")
def server(browser, host, workspace):
    from aai_pack.devtools.editor_copy import EXAMPLE_PICTURE
    from aai_pack.devtools.server import Server

    shutil.copy(Path(host.comfyui) / "input" / EXAMPLE_PICTURE, workspace.input)
    with Server(host, workspace) as server:
        yield server


@pytest.fixture(scope="module", params=["classic", "nodes_2"])
def editor(request, server, browser):
    from aai_pack.devtools.editor import Editor

    with Editor(server.url, browser, nodes_2=request.param == "nodes_2") as editor:
        yield editor
