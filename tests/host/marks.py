"""Marks that several tests share."""

from __future__ import annotations

import pytest

equal_trainings = pytest.mark.cpu_only(
    reason="compares two trainings bit by bit: the backward pass of CUDA's kernels is not deterministic"
)
