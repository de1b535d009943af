"""The shipped weights are those that were measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aai_pack.pocket.models import weights

FOLDER = Path(weights.PATH).parent
LIMIT = 15_000_000  # bytes of what the pack loads


def test_the_shipped_files_are_the_recorded_ones():
    """After an export: `cd pocket/weights && sha256sum *.safetensors > SHA256SUMS`, and measure again."""
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    recorded = {name: digest for digest, name in (line.split() for line in lines)}
    shipped = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.safetensors")}
    assert shipped == recorded


def test_what_is_loaded_is_small():
    assert weights.PATH.stat().st_size < LIMIT
