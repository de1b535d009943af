"""Marks that several tests share."""

from __future__ import annotations

import pytest

partial_load = pytest.mark.whole_weights(reason="a model whose weights are streamed is never loaded in part by hand")
equal_trainings = pytest.mark.cpu_only(
    reason="compares two trainings bit by bit: the backward pass of CUDA's kernels is not deterministic"
)
