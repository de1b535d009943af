"""Resampling against torchaudio, and its laws."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.audio import resample as module
from aai_pack.aai_models.audio.resample import resample
from aai_pack.tests import sounds
from hypothesis import given, settings
from hypothesis import strategies as st

RATES = [(48000, 16000), (44100, 16000), (22050, 16000), (11025, 16000), (8000, 16000), (96000, 16000), (192000, 16000)]


@pytest.mark.parametrize(("source", "target"), [*RATES, (16000, 44100), (16000, 16000), (32000, 22050)])
def test_equals_torchaudio(source, target):
    functional = pytest.importorskip("torchaudio.functional", exc_type=ImportError)
    clip = sounds.noise(2, 1, 48000, scale=0.3)
    theirs = functional.resample(clip, source, target)
    ours = resample(clip, source, target)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-5


def test_a_ratio_that_does_not_reduce_equals_torchaudio():
    functional = pytest.importorskip("torchaudio.functional", exc_type=ImportError)
    clip = sounds.noise(1, 22051)
    theirs = functional.resample(clip.double(), 22051, 1000)  # its float32 is off by 1e-3 at such ratios
    assert (resample(clip, 22051, 1000) - theirs).abs().max() < 1e-5


def test_both_ways_to_compute_agree(monkeypatch):
    clip = sounds.noise(2, 2, 4000)
    by_phase = resample(clip, 44100, 16000)
    monkeypatch.setattr(module, "TAPS_AT_ONCE", 1000)
    assert (resample(clip, 44100, 16000) - by_phase).abs().max() < 1e-4


def test_a_tone_stays_and_what_cannot_be_held_goes():
    low = resample(sounds.tone(1.0, 48000, 1000.0), 48000, 16000)
    assert (low - sounds.tone(1.0, 16000, 1000.0))[:, 100:-100].abs().max() < 1e-3
    assert resample(sounds.tone(1.0, 48000, 11000.0), 48000, 16000)[:, 100:-100].abs().max() < 1e-2


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(1, 3000), source=st.integers(1, 400000), target=st.sampled_from([16000, 8000, 48000]))
def test_any_rate_gives_the_right_length(samples, source, target):
    samples = max(1, min(samples, 10 * source))
    clip = sounds.noise(1, 1, samples)
    result = resample(clip, source, target)
    assert result.shape == (1, 1, -(-samples * target // source)) and torch.isfinite(result).all()
