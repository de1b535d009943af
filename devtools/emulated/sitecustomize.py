"""Gives PyTorch the emulated device when a program imports it. Python runs this file by itself where it is on the path."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder


class _OnTorch:
    """A finder that finds PyTorch as usual, and gives it the device while it is imported."""

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == "torch" else None
        if spec is not None:
            spec.loader.exec_module = _with_device(spec.loader.exec_module)
        return spec


def _with_device(imported):
    def exec_module(module):
        import emulated_device

        emulated_device.load(module.__spec__.origin)
        imported(module)
        emulated_device.begin(module)

    return exec_module


if "AAI_EMULATED_LIBRARY" in os.environ:
    sys.meta_path.insert(0, _OnTorch())
