"""The shipped weights are those that were measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from aai_pack.lab.training.judge_model import SHIPPED_JUDGE
from aai_pack.pocket.models import weights

FOLDERS = (Path(weights.PATH).parent, SHIPPED_JUDGE.parent)
LIMIT = 15_000_000  # bytes of what the pack loads


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_the_shipped_files_are_the_recorded_ones(folder):
    """After an export, in each folder: `sha256sum *.safetensors > SHA256SUMS`, and measure again."""
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    recorded = {name: digest for digest, name in (line.split() for line in lines)}
    shipped = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
    assert shipped == recorded


def test_what_is_loaded_is_small():
    assert weights.PATH.stat().st_size < LIMIT
