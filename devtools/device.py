"""What a host computes on in tests and benchmarks. Said once, in the environment, which every process they start inherits."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from . import emulation
from .hosts import Host
from .report import DevError

MEASURED = ("cpu", "cuda")
DEVICES = (*MEASURED, "emulated")  # the last is an accelerator that a processor plays (emulation.py)
TYPES = {"cpu": "cpu", "cuda": "cuda", "emulated": "xpu"}  # PyTorch's names
DEVICE, DYNAMIC, OPTIONS = "AAI_DEVICE", "AAI_DYNAMIC", "AAI_HOST_OPTIONS"
NOT_DYNAMIC = "--disable-dynamic-vram"


def current() -> str:
    """The device of this run: cpu, cuda, or the accelerator that a processor plays."""
    return os.environ.get(DEVICE, "cpu")


def arguments(comfyui: Path) -> tuple[str, ...]:
    """What ComfyUI's command line needs for this run; `comfyui` is the root of its tree.

    On a GPU nothing: what ComfyUI does there by itself is what its users have. Weights that stay whole instead of being
    streamed must be asked for; a version without that argument knows no others. Further options come last.
    """
    further = tuple(shlex.split(os.environ.get(OPTIONS, "")))
    if current() == "cpu":
        return ("--cpu", *further)
    knows = NOT_DYNAMIC in (comfyui / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    whole = (NOT_DYNAMIC,) if os.environ.get(DYNAMIC) == "off" and knows else ()
    return (*whole, *further)


def python_path() -> str:
    """The `PYTHONPATH` of a host that is to see nothing but itself and this run's device."""
    return str(emulation.PARTS) if current() == "emulated" else ""


def choose(host: Host, device: str, dynamic: str, options: str = "") -> None:
    """Make `device` that of this process and of all that it starts, and `options` those that ComfyUI is started with.

    Raises `DevError` (exit code 2) without a GPU.
    """
    if device == "cuda" and not _has_cuda(host):
        raise DevError(
            "There is no GPU that this host's PyTorch can use through CUDA. Run with --device cpu, or on such a machine.",
            code=2,
        )
    if device == "emulated":
        os.environ |= emulation.environment(host)
    os.environ |= {DEVICE: device, DYNAMIC: dynamic, OPTIONS: options}


def _has_cuda(host: Host) -> bool:
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([host.python, "-c", question], capture_output=True).returncode == 0
