"""Loads the pack under the alias `aai_pack`, as the host does: by path, its root never on `sys.path`."""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "tests" / "unit"
ON_A_DEVICE = ROOT / "tests" / "host" / "test_on_a_device.py"
OURS_ALONE = (UNIT, ROOT / "tests" / "host" / "test_devtools.py")


def _load_pack() -> None:
    spec = importlib.util.spec_from_file_location(
        "aai_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["aai_pack"] = module
    spec.loader.exec_module(module)


_load_pack()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background passes that on to every process, and tests press Ctrl-C in theirs.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--aai-host", default="0.30.0", help="ComfyUI version to test against")
    parser.addoption("--aai-browser", action="store_true", help="fail where there is no browser to test the editor in")


def pytest_ignore_collect(collection_path, config):
    """What does not touch ComfyUI is the same beside each of its versions: once is enough, unless it is asked for by name.
    What needs a device whose memory is counted is for that device alone."""
    from aai_pack.devtools import device
    from aai_pack.devtools.hosts import DEFAULT_VERSION

    if collection_path == ON_A_DEVICE:
        return None if device.current() == "emulated" else True
    place = next((place for place in OURS_ALONE if collection_path.is_relative_to(place)), None)
    if place is None or config.getoption("--aai-host") == DEFAULT_VERSION:
        return None
    return None if any(Path(name.partition("::")[0]).is_relative_to(place) for name in config.args) else True


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
