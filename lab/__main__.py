"""`python -m lab ...` from the repository's root: trains and judges the pocket models."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def load_pack(name: str = "aai_pack") -> None:
    """Load the pack by path under an alias, as the host does: its modules import each other relatively."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if __name__ == "lab worker":  # a process of `training.workers`
    load_pack()
    importlib.import_module("aai_pack.aai_models.align.data.worker").begin()

if __name__ == "__main__":
    load_pack()
    sys.exit(importlib.import_module("aai_pack.lab.training.cli").main())
