"""The block filter against SciPy's, sample by sample."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.audio.loudness import k_weighting
from aai_pack.aai_models.audio.recursive import BLOCK, GROUP, BlockFilter
from aai_pack.tests import sounds
from scipy.signal import sosfilt


@pytest.mark.parametrize("rate", [70, 1000, 16000, 48000, 384000])
@pytest.mark.parametrize("samples", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5, BLOCK * GROUP, 5 * BLOCK * GROUP + 17])
def test_equals_sample_by_sample(rate, samples):
    sections = k_weighting(rate)
    signal = sounds.noise(3, samples).double() + 0.5
    filtered, _ = BlockFilter(sections)(signal, torch.zeros(3, 2 * len(sections), dtype=torch.float64))
    expected = sosfilt(sections, signal.numpy(), axis=-1) if len(sections) else signal.numpy()
    assert torch.allclose(filtered, torch.from_numpy(expected), rtol=0, atol=1e-8)


def test_the_state_carries_over():
    sections, signal = k_weighting(48000), sounds.noise(2, 30_000).double()
    block_filter, state, parts = BlockFilter(sections), torch.zeros(2, 4, dtype=torch.float64), []
    whole, last = block_filter(signal, state)
    for part in signal.split(7001, dim=1):
        filtered, state = block_filter(part, state)
        parts.append(filtered)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-12)
    assert torch.allclose(state, last, atol=1e-10)


def test_silence_after_sound_fades_and_silence_alone_stays_silent():
    sections = k_weighting(48000)
    zeros = torch.zeros(1, 4, dtype=torch.float64)
    assert BlockFilter(sections)(torch.zeros(1, 5000, dtype=torch.float64), zeros)[0].eq(0).all()
