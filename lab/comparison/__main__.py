"""`python -m lab.comparison FOLDER`: the figures of a comparison that was made on the pocket world."""

from __future__ import annotations

import importlib
import sys

from ..__main__ import load_pack

if __name__ == "__main__":
    load_pack()
    sys.exit(importlib.import_module("aai_pack.lab.comparison.pocket").main())
