"""The accelerator that a processor plays refuses what a real one refuses, and computes what the processor computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aai_pack.devtools import emulation
from aai_pack.devtools.hosts import Host
from aai_pack.devtools.report import DevError

SCRIPT = Path(__file__).with_name("on_emulated_device.py")
HERE = Host("", sys.executable, "")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the emulated device is built on Linux alone")


def run(**settings: str) -> dict:
    environment = {**os.environ, **emulation.environment(HERE), **settings}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    return run()


def test_it_refuses_what_a_device_refuses(found):
    said = found["refusals"]
    assert "Expected all tensors to be on the same device" in said["mixed"]
    assert "Expected all tensors to be on the same device" in said["mixed_matrices"]
    assert said["numpy"].startswith("TypeError: can't convert xpu:0 device type tensor to numpy")
    assert "generator" in said["generator"]
    assert said["memory"].startswith("OutOfMemoryError") and "Tried to allocate 4 MiB" in said["memory"]


def test_it_takes_what_a_device_takes(found):
    assert found["refusals"]["scalar"] == "" and found["refusals"]["places"] == ""


def test_float64_can_be_left_out_as_on_apples(found):
    assert found["in_float64"] == ""
    assert "no float64" in run(AAI_EMULATED_FLOAT64="off")["in_float64"]


def test_results_and_gradients_are_the_processors(found):
    assert all(distance < 1e-5 for distance in found["distances"].values()), found["distances"]


def test_it_moves_and_learns_as_nvidias(found):
    assert found["moved"] and found["backward_is_elsewhere"]


def test_its_memory_is_counted(found):
    assert found["memory"] == {"during": 4096, "views": 0, "after": 0, "peak": 4096}


def test_its_random_numbers_are_its_own(found):
    assert found["random_numbers"] == {"repeat": True, "untouched": True}


def test_sizes_alone_take_what_the_computed_step_takes(found):
    alone = run(AAI_EMULATED_SIZES="on")["step_of_large_tensors"]
    assert alone == found["step_of_large_tensors"] and alone["finite"] and alone["peak"] > 2**20


class TestWithoutACompiler:
    def test_it_is_one_sentence(self, monkeypatch):
        monkeypatch.setattr(emulation.shutil, "which", lambda _name: None)
        monkeypatch.setattr(emulation, "install_from_debian", lambda _package: False)
        with pytest.raises(DevError, match=r"needs a C\+\+ compiler.*apt-get install g\+\+") as caught:
            emulation._ensure_compiler()
        assert caught.value.code == 2

    def test_debians_is_installed_where_that_needs_nobodys_leave(self, monkeypatch):
        installed = []
        monkeypatch.setattr(emulation.shutil, "which", lambda name: f"/usr/bin/{name}" if installed else None)
        monkeypatch.setattr(emulation, "install_from_debian", lambda package: installed.append(package) or True)
        assert emulation._ensure_compiler() == "/usr/bin/g++" and installed == ["g++"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "a.h:3: error: 'at' is not a namespace\nerror: too many errors\n",
            "'at' is not a namespace -- It takes PyTorch",
        ),
        ("a.s: fatal error: error writing to a.s: No space left on device\n", "No space left.*The disk is full"),
    ],
)
def test_what_does_not_compile_is_one_sentence(tmp_path, said, told):
    compiler, library = tmp_path / "c++", tmp_path / "device.so"
    compiler.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(DevError, match=f"(?s)Compiling the emulated device.*{told}") as caught:
        emulation._compile(str(compiler), tmp_path, 1, library)
    assert "\n" not in str(caught.value) and not library.exists()
