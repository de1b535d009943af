"""The host builder, on a tiny package of its own: stages, repair, locks, and failures in one line."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
from aai_pack.devtools import cache, external, hosts
from aai_pack.devtools.report import DevError

ROOT = Path(__file__).resolve().parents[2]


def write_wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Write a wheel of version 1.0 into a folder -> its SHA-256."""
    info = f"{name}-1.0.dist-info"
    meta = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, *meta, f"{info}/RECORD"])
    path_of_wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path_of_wheel, "w") as wheel:
        for path, text in {**files, **meta, f"{info}/RECORD": record}.items():
            wheel.writestr(zipfile.ZipInfo(path), text)  # without the time, so that its hash is always the same
    return hashlib.sha256(path_of_wheel.read_bytes()).hexdigest()


UI = {"vendor/ui/main.py": "print('ui')\n", "vendor/ui/requirements.txt": "", "vendor/x.py": ""}
with tempfile.TemporaryDirectory() as scratch:
    TINY = write_wheel(Path(scratch), "tinyui", UI)


@pytest.fixture(autouse=True)
def built(monkeypatch):
    """Hosts are built here, also where the suite runs on a ComfyUI that was already there."""
    monkeypatch.setenv(external.PATH, "")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A package index of two tiny wheels, a recipe for them, and an empty cache."""
    index = tmp_path / "index"
    index.mkdir()
    write_wheel(index, "tinyui", UI)
    write_wheel(index, "tinytorch", {"tinytorch.py": "here = True\n"})
    for name, value in {"AAI_CACHE": tmp_path / "cache", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": index}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setitem(hosts.RECIPES, "tiny", hosts.Recipe("tinyui==1.0", TINY, "vendor/ui", binary=True))
    monkeypatch.setattr(hosts, "TORCH", ("tinytorch==1.0",))
    return tmp_path / "cache" / "hosts" / "tiny"


BUILD = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from devtools import hosts
hosts.RECIPES["tiny"] = hosts.Recipe("tinyui==1.0", {TINY!r}, "vendor/ui", binary=True)
hosts.TORCH = ("tinytorch==1.0",)
hosts.ensure_host("tiny")
"""


def works(host: hosts.Host) -> bool:
    done = subprocess.run(
        [host.python, "-c", "import tinytorch; print(tinytorch.here)"], capture_output=True, text=True
    )
    return done.stdout.strip() == "True" and (Path(host.comfyui) / "main.py").is_file()


def test_a_host_is_built_once(tiny, capsys):
    host = hosts.ensure_host("tiny")
    assert works(host) and not (Path(host.comfyui) / "x.py").exists()
    said = capsys.readouterr().err
    assert "fetching tinyui==1.0" in said and "done in" in said
    assert hosts.ensure_host("tiny") == host
    assert capsys.readouterr().err == "", "there was nothing to do"


def test_a_build_that_was_killed_is_repaired(tiny):
    process = subprocess.Popen([sys.executable, "-c", BUILD], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tiny / "tree.stamp").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tiny / "venv.stamp").exists(), "it was to be killed before its end"
    assert works(hosts.ensure_host("tiny"))


@pytest.mark.parametrize("lost", ["tree.stamp", "venv.stamp", "ComfyUI", "venv"])
def test_what_is_lost_is_built_again(tiny, lost):
    import shutil

    hosts.ensure_host("tiny")
    (tiny / lost).unlink() if lost.endswith("stamp") else shutil.rmtree(tiny / lost)
    assert works(hosts.ensure_host("tiny"))


def test_two_builders_wait_for_each_other(tiny):
    builders = [subprocess.Popen([sys.executable, "-c", BUILD], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [builder.communicate(timeout=120)[1] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sum("waiting for it" in text for text in said) == 1
    assert sum("fetching tinyui==1.0: done" in text for text in said) == 1


def test_a_lock_ends_with_its_holder(tmp_path):
    code = f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\nfrom devtools.cache import lock\n"
    code += f"with lock(Path({str(tmp_path / 'x.lock')!r})): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "held"
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with cache.lock(tmp_path / "x.lock"):
        assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("ERROR: [Errno 28] No space left on device", "free about 8 GB"),
        ("WARNING: Retrying ... NewConnectionError\nERROR: No matching distribution", "check the network"),
        ("error: Temporary failure in name resolution", "check the network"),
        ("ERROR: something odd", "clean cache"),
        ("", "clean cache"),
    ],
)
def test_failures_are_one_line_with_a_remedy(output, remedy):
    line = hosts.explain_failure("Installing PyTorch", output)
    assert line.startswith("Installing PyTorch failed: ") and remedy in line and "\n" not in line


def test_a_package_that_is_not_there(tiny, monkeypatch):
    monkeypatch.setitem(hosts.RECIPES, "tiny", hosts.Recipe("absent==1.0", TINY, "vendor/ui", binary=True))
    with pytest.raises(DevError, match=r"Fetching absent==1\.0 failed"):
        hosts.ensure_host("tiny")
    monkeypatch.setitem(hosts.RECIPES, "tiny", hosts.Recipe("tinyui==1.0", TINY, "vendor/moved", binary=True))
    with pytest.raises(DevError, match="holds no ComfyUI under vendor/moved"):
        hosts.ensure_host("tiny")


def test_a_package_that_was_changed(tiny, monkeypatch):
    monkeypatch.setitem(hosts.RECIPES, "tiny", hosts.Recipe("tinyui==1.0", "0" * 64, "vendor/ui", binary=True))
    with pytest.raises(DevError, match=rf"tinyui-1\.0.* is not the file that was tested: .*{TINY}, expected was 0000"):
        hosts.ensure_host("tiny")
    assert not (tiny / "ComfyUI").exists(), "nothing of it was unpacked"


def test_every_archive_is_pinned_and_a_pin_builds_no_host_anew():
    for recipe in hosts.RECIPES.values():
        assert len(bytes.fromhex(recipe.sha256)) == 32 and recipe.sha256 not in repr(recipe)
    assert len(bytes.fromhex(hosts.RECORDINGS_SHA256)) == 32


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AAI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DevError, match="Set AAI_CACHE to a folder"):
        hosts.ensure_host()


def test_an_old_python_and_an_unknown_version(monkeypatch):
    with pytest.raises(DevError, match=r"Known versions: 0\.30\.0, 0\.24\.0, 0\.18\.2, 0\.3\.75"):
        hosts.ensure_host("1.0")
    monkeypatch.setattr(hosts, "MINIMUM_PYTHON", (99, 0))
    with pytest.raises(DevError, match="too old: ComfyUI needs"):
        hosts.ensure_host()
