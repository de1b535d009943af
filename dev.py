#!/usr/bin/env python3
"""For people who work on the pack: build a real ComfyUI, run the demo, the tests, a server, the benchmarks.

Python 3.10+ and a package index are all it needs. `python dev.py --help` lists the commands.
"""

from __future__ import annotations

import sys

from devtools.cli import main

if __name__ == "__main__":
    sys.exit(main())
