"""`torch.xpu` on the emulated accelerator, as programs ask for it. `accelerator.cpp` says what the device is."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

GIB = 2**30
_library = None


def load(torch: str) -> None:
    """Load the device before PyTorch, whose `__init__.py` is `torch`, can ask for NVIDIA's."""
    global _library
    ctypes.CDLL(str(Path(torch).parent / "lib" / "libtorch_global_deps.so"), mode=ctypes.RTLD_GLOBAL)
    _library = ctypes.CDLL(os.environ["AAI_EMULATED_LIBRARY"])


def begin(torch) -> None:
    """Make the device known to `torch`, which has just been imported."""
    for name in ("capacity", "allocated", "peak", "state"):
        getattr(_library, f"emulated_{name}").restype = ctypes.c_ulonglong
    count = int(os.environ.get("AAI_EMULATED_DEVICES", "1"))
    capacity = int(float(os.environ.get("AAI_EMULATED_GIB", "64")) * GIB)
    float64 = os.environ.get("AAI_EMULATED_FLOAT64", "on") != "off"
    sizes_alone = os.environ.get("AAI_EMULATED_SIZES", "off") == "on"
    _library.emulated_begin(count, ctypes.c_ulonglong(capacity), int(float64), int(sizes_alone))
    torch.version.cuda = None  # what a PyTorch for another maker's devices says
    for functions in (_devices(torch), _memory(torch), _random(torch)):
        for name, function in functions.items():
            setattr(torch.xpu, name, function)


def _index(device=None) -> int:
    """The number of a device that is named as PyTorch allows: by a number, a string, a `torch.device` or not at all."""
    if isinstance(device, str):
        device = int(device.partition(":")[2] or -1)
    index = device if isinstance(device, int) else getattr(device, "index", None)
    return _library.emulated_current() if index is None or index < 0 else index


class _Device:
    """`torch.xpu.device(n)`: a device for the length of a block."""

    def __init__(self, device):
        self._index = _index(device)

    def __enter__(self):
        self._before = _library.emulated_current()
        _library.emulated_set_current(self._index)

    def __exit__(self, *_error):
        _library.emulated_set_current(self._before)


def _devices(torch) -> dict:
    def properties(device=None):
        size = _library.emulated_capacity(_index(device))
        # Asked of no device in particular it decides whether ComfyUI lets text encoders on the device at all.
        return SimpleNamespace(name="emulated", total_memory=size, has_fp16=half or device is None, has_fp64=True)

    half = os.environ.get("AAI_EMULATED_HALF", "off") == "on"
    stream = SimpleNamespace(synchronize=lambda: None, wait_stream=lambda _other: None, query=lambda: True)
    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device": _Device,
        # Not the library's own functions, which PyTorch cannot put into a set.
        "device_count": lambda: _library.emulated_count(),
        "set_device_count": lambda count: _library.emulated_set_count(count),  # not in PyTorch
        "current_device": lambda: _library.emulated_current(),
        "set_device": lambda device: _library.emulated_set_current(_index(device)),
        "get_device_name": lambda _device=None: "emulated",
        "get_device_properties": properties,
        "is_bf16_supported": lambda *_args, **_options: half,
        "synchronize": lambda _device=None: None,
        "current_stream": lambda _device=None: stream,
        "is_current_stream_capturing": lambda: False,
    }


def _memory(torch) -> dict:
    def statistics(device=None):
        taken = _library.emulated_allocated(_index(device))
        return {"active_bytes.all.current": taken, "reserved_bytes.all.current": taken}

    def mem_get_info(device=None):
        capacity = _library.emulated_capacity(_index(device))
        return capacity - _library.emulated_allocated(_index(device)), capacity

    def set_capacity(size: int, device=None) -> None:
        """Not in PyTorch: how many bytes the device has from now on."""
        _library.emulated_set_capacity(_index(device), ctypes.c_ulonglong(size))

    return {
        "empty_cache": lambda: None,
        "memory_stats": statistics,
        "mem_get_info": mem_get_info,
        "memory_allocated": lambda device=None: _library.emulated_allocated(_index(device)),
        "memory_reserved": lambda device=None: _library.emulated_allocated(_index(device)),
        "max_memory_allocated": lambda device=None: _library.emulated_peak(_index(device)),
        "reset_peak_memory_stats": lambda device=None: _library.emulated_reset_peak(_index(device)),
        "set_capacity": set_capacity,
    }


def _random(torch) -> dict:
    def get_rng_state(device=None):
        state = torch.empty(_library.emulated_state(_index(device), None, 0), dtype=torch.uint8)
        _library.emulated_state(_index(device), ctypes.c_void_p(state.data_ptr()), 0)
        return state

    def set_rng_state(state, device=None) -> None:
        _library.emulated_state(_index(device), ctypes.c_void_p(state.contiguous().data_ptr()), 1)

    def manual_seed_all(seed: int) -> None:
        for index in range(_library.emulated_count()):
            _library.emulated_seed(index, ctypes.c_ulonglong(seed))

    def set_rng_state_all(states) -> None:
        for index, state in enumerate(states):
            set_rng_state(state, index)

    return {
        "_is_in_bad_fork": lambda: False,
        "get_rng_state": get_rng_state,
        "set_rng_state": set_rng_state,
        "get_rng_state_all": lambda: [get_rng_state(index) for index in range(_library.emulated_count())],
        "set_rng_state_all": set_rng_state_all,
        "manual_seed": lambda seed: _library.emulated_seed(_index(), ctypes.c_ulonglong(seed)),
        "manual_seed_all": manual_seed_all,
    }
