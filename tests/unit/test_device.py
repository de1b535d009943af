"""What tests and benchmarks tell a host to compute on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from aai_pack.devtools import device
from aai_pack.devtools.hosts import Host
from aai_pack.devtools.report import DevError

ROOT = Path(__file__).resolve().parents[2]


def tree(folder: Path, text: str) -> Path:
    (folder / "comfy").mkdir()
    (folder / "comfy" / "cli_args.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("chosen", "dynamic", "options", "known", "expected"),
    [
        ("cpu", "default", "", True, ("--cpu",)),
        ("cpu", "off", "--cache-lru 3", True, ("--cpu", "--cache-lru", "3")),
        ("cuda", "default", "", True, ()),
        ("cuda", "off", "", True, ("--disable-dynamic-vram",)),
        ("cuda", "off", "--fast", True, ("--disable-dynamic-vram", "--fast")),
        ("cuda", "off", "", False, ()),
    ],
)
def test_arguments_of_a_host(tmp_path, monkeypatch, chosen, dynamic, options, known, expected):
    monkeypatch.setenv(device.DEVICE, chosen)
    monkeypatch.setenv(device.DYNAMIC, dynamic)
    monkeypatch.setenv(device.OPTIONS, options)
    text = 'add_argument("--disable-dynamic-vram")' if known else 'add_argument("--cpu")'
    assert device.arguments(tree(tmp_path, text)) == expected


def test_a_processor_is_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv(device.DEVICE, raising=False)
    monkeypatch.delenv(device.OPTIONS, raising=False)
    assert device.current() == "cpu" and device.arguments(tmp_path) == ("--cpu",)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
class TestWithoutGPU:
    def test_it_is_one_sentence_and_changes_nothing(self, monkeypatch):
        monkeypatch.setenv(device.DEVICE, "cpu")
        with pytest.raises(DevError, match=r"There is no GPU .* Run with --device cpu") as caught:
            device.choose(Host("0", sys.executable, ""), "cuda", "default")
        assert caught.value.code == 2 and device.current() == "cpu"

    @pytest.mark.parametrize("command", ["test", "bench"])
    def test_a_command_ends_with_two(self, command):
        arguments = [sys.executable, str(ROOT / "dev.py"), command, "--device", "cuda", "--dynamic", "off"]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 2 and "There is no GPU" in done.stderr and "Traceback" not in done.stderr
