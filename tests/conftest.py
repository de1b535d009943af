"""Loads the pack under the alias `aai_pack`, as the host does: by path, its root never on `sys.path`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load_pack() -> None:
    spec = importlib.util.spec_from_file_location(
        "aai_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["aai_pack"] = module
    spec.loader.exec_module(module)


_load_pack()


def pytest_addoption(parser):
    parser.addoption("--aai-host", default="0.30.0", help="ComfyUI version to test against")
    parser.addoption("--aai-browser", action="store_true", help="fail where there is no browser to test the editor in")


@pytest.fixture(scope="session")
def host(request):
    """The ComfyUI under test."""
    from aai_pack.devtools.hosts import ensure_host

    return ensure_host(request.config.getoption("--aai-host"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings."""
    from aai_pack.devtools.hosts import ensure_recordings

    return ensure_recordings()
