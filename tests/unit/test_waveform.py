"""The host's AUDIO: whatever mapping carries it, checked and never changed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.waveform import HIGHEST_RATE, as_waveform, to_mono
from aai_pack.tests import sounds


class Lazy(Mapping):
    """As the AUDIO of video loaders: nothing is decoded until it is asked for."""

    def __init__(self, waveform, sample_rate):
        self._values, self.read = {"waveform": waveform, "sample_rate": sample_rate}, []

    def __getitem__(self, key):
        self.read.append(key)
        return self._values[key]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


def test_a_lazy_mapping_is_read_once():
    audio = Lazy(sounds.noise(2, 2, 100), 48000)
    waveform, rate = as_waveform(audio)
    assert waveform.shape == (2, 2, 100) and rate == 48000 and sorted(audio.read) == ["sample_rate", "waveform"]


@pytest.mark.parametrize("shape", [(100,), (2, 100), (3, 2, 100)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_shape_and_kind_of_samples(shape, dtype):
    given = sounds.noise(*shape).to(dtype)
    kept = given.clone()
    waveform, _ = as_waveform({"waveform": given, "sample_rate": 16000})
    assert waveform.ndim == 3 and waveform.shape[-1] == 100 and waveform.dtype == torch.float32
    waveform_of_a_user = waveform + 1
    assert torch.equal(given, kept) and waveform_of_a_user.shape == waveform.shape


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (None, "video without a sound track"),
        ({}, "without waveform and sample_rate"),
        ({"waveform": torch.zeros(1, 1, 9)}, "without waveform and sample_rate"),
        (7, "carries a int"),
        ({"waveform": [0.0], "sample_rate": 16000}, "waveform is list"),
        ({"waveform": torch.tensor(0.0), "sample_rate": 16000}, "waveform is"),
        ({"waveform": torch.zeros(0, 1, 9), "sample_rate": 16000}, "empty"),
        ({"waveform": torch.zeros(1, 1, 9), "sample_rate": 0}, "sample rate is 0"),
        ({"waveform": torch.zeros(1, 1, 9), "sample_rate": -1}, "sample rate is -1"),
        ({"waveform": torch.zeros(1, 1, 9), "sample_rate": float("nan")}, "sample rate is nan"),
        ({"waveform": torch.zeros(1, 1, 9), "sample_rate": HIGHEST_RATE + 1}, "sample rate is"),
        ({"waveform": torch.tensor([0.0, float("nan"), float("inf")]), "sample_rate": 16000}, "2 of 3 samples"),
    ],
)
def test_what_is_no_sound_is_refused(audio, words):
    with pytest.raises(AudioError, match=words):
        as_waveform(audio)


def test_huge_samples_are_numbers():
    assert as_waveform({"waveform": torch.full((1, 1, 9), 3e38), "sample_rate": 16000})[0].shape == (1, 1, 9)


def test_mono():
    stereo = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert torch.equal(to_mono(stereo), torch.tensor([[2.0, 4.0]]))
    assert torch.equal(to_mono(stereo, "first"), torch.tensor([[1.0, 2.0]]))
    with pytest.raises(ValueError, match="known are mean, first"):
        to_mono(stereo, "last")
