"""The device that a person names or that is available, and what it can do. No brand is assumed."""

from __future__ import annotations

import os

import torch

from .errors import DeviceError

# CPU capability flags of bfloat16 instructions: x86 and Arm.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2", "arm_bf16", "bf16")


def find_device(name: str = "auto") -> torch.device:
    """A device by PyTorch's name (`cpu`, `cuda`, `cuda:1`, `mps`, `xpu`); `auto` is the accelerator where there is one.

    Without a number it is, among processes that `torchrun` started, the one that belongs to this process. Raises
    `DeviceError` for one that this PyTorch does not reach.
    """
    there = _accelerator()
    if name == "auto":
        name = there or "cpu"
    kind = name.partition(":")[0]
    if kind not in ("cpu", there):
        known = ", ".join(["auto", "cpu", *([there] if there else [])])
        raise DeviceError(
            f"The device {name!r} is not available",
            f"This PyTorch ({torch.__version__}) can use {known}",
            "Choose one of them, or install the PyTorch that is made for the device",
        )
    numbered = ":" not in name and kind in ("cuda", "xpu")
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", 0))) if numbered else torch.device(name)
    count = torch.get_device_module(device).device_count() if kind != "cpu" else 1
    if (device.index or 0) >= count:
        raise DeviceError(
            f"The device {device} is not available", f"There are {count}, counted from 0", "Choose another one"
        )
    return device


def _accelerator() -> str | None:
    """The kind of device beside the processor, None without one."""
    if hasattr(torch, "accelerator"):  # newer than the oldest PyTorch that ComfyUI runs with
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return None if found is None else found.type
    kinds = {"cuda": torch.cuda, "xpu": getattr(torch, "xpu", None), "mps": torch.backends.mps}
    return next((kind for kind, module in kinds.items() if module is not None and module.is_available()), None)


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 by instructions of its own.

    Everything runs in bfloat16 everywhere, but without them a processor is many times slower than in float32.
    """
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name) for name in BF16_INSTRUCTIONS)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "xpu"
