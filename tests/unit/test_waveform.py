"""The host's AUDIO: whatever mapping carries it, checked and never changed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.fbank import encoder_input
from aai_pack.aai_models.audio.heard import require_heard
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


@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.int8, 2**7), (torch.uint8, 2**7), (torch.int16, 2**15), (torch.int32, 2**31)]
)
def test_integers_are_scaled_as_decoding_does(dtype, scale):
    sound = sounds.tone(0.1)[None]
    offset = scale if dtype == torch.uint8 else 0
    given = (sound.double() * scale).round().clamp(-scale, scale - 1).add(offset).to(dtype)
    waveform, _ = as_waveform({"waveform": given, "sample_rate": 48000})
    assert waveform.dtype == torch.float32 and float((waveform - sound).abs().max()) <= 1 / scale


def test_what_decoding_gives_and_what_an_integer_waveform_gives_are_equal(tmp_path):
    samples = sounds.noise(1000).clamp(-1, 1)
    sounds.write_wav(tmp_path / "a.wav", samples.numpy())
    packed = torch.from_numpy((samples.numpy() * 32767).astype("<i2"))
    decoded, rate = decode_audio(tmp_path / "a.wav")
    assert torch.equal(as_waveform({"waveform": packed, "sample_rate": rate})[0][0], decoded)


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (sounds.tone(0.1) * 32767, r"reach 163\d\d.*Multiply them by 1/32768"),
        ((sounds.tone(0.1) * 100).round(), "reach 50 and are all whole numbers.*1/128"),
        (sounds.tone(0.1) * 2**31, "Multiply them by 1/2147483648"),
        (sounds.tone(0.1) * 1e30, "reach 5e"),
        (torch.full((1, 1, 9), 3e38), "reach 3e"),
        (sounds.tone(0.1).double() * 1e300, "samples are NaN or infinite"),
        (torch.ones(1, 1, 9, dtype=torch.bool), "type bool"),
        (torch.ones(1, 1, 9, dtype=torch.int64), "type int64"),
        (torch.ones(1, 1, 9, dtype=torch.complex64), "type complex64"),
        (sounds.noise(1, 48000, 2), "48000 channels of 2 samples.*exchange the last two axes"),
        (sounds.noise(48000, 1), "48000 channels of 1 sample"),
        (sounds.noise(40, 2), "40 channels of 2 samples"),
    ],
)
def test_samples_and_shapes_of_another_kind_are_refused(waveform, words):
    with pytest.raises(AudioError, match=words):
        as_waveform({"waveform": waveform, "sample_rate": 16000})


@pytest.mark.parametrize("rate", ["16000", None, [16000], (16000,), True, b"1", {}, torch.tensor([16000, 1]), 1j])
def test_rates_that_are_no_number_are_refused(rate):
    with pytest.raises(AudioError, match=r"sample rate is .* a \w+\. It must be one number in Hz"):
        as_waveform({"waveform": sounds.noise(1, 1, 9), "sample_rate": rate})


@pytest.mark.parametrize("rate", [16000, 16000.0, np.int64(16000), np.float32(16000), torch.tensor(16000)])
def test_rates_of_every_kind_of_number(rate):
    found = as_waveform({"waveform": sounds.noise(1, 1, 9), "sample_rate": rate})[1]
    assert found == 16000 and type(found) is int


@pytest.mark.parametrize("peak", [1.0, 3.5, 99.0])
def test_floats_over_full_scale_are_a_loud_sound(peak):
    sound = sounds.noise(1, 1, 999)
    sound = sound / sound.abs().max() * peak
    assert torch.equal(as_waveform({"waveform": sound, "sample_rate": 16000})[0], sound)


def test_mono():
    stereo = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert torch.equal(to_mono(stereo), torch.tensor([[2.0, 4.0]]))
    assert torch.equal(to_mono(stereo, "first"), torch.tensor([[1.0, 2.0]]))
    with pytest.raises(ValueError, match="known are mean, first"):
        to_mono(stereo, "last")


class TestOppositePhase:
    """Two channels that stand against each other are silence in their mean, and loud to everybody's ears."""

    def test_it_is_the_loudest_channel(self):
        sound = sounds.noise(1, 4000)
        for pair in (torch.cat([sound, -sound]), torch.cat([0.8 * sound, -sound]), torch.cat([sound, -0.97 * sound])):
            mono = to_mono(pair[None])[0]
            assert torch.equal(mono, pair[pair.square().sum(dim=1).argmax()])
            assert torch.nn.functional.cosine_similarity(mono, sound[0], dim=0).abs() > 0.95

    def test_others_keep_their_mean(self):
        ordinary = (sounds.noise(1, 2, 4000), sounds.noise(1, 8, 4000), sounds.noise(1, 1, 4000).repeat(1, 2, 1))
        one_of_eight = torch.zeros(1, 8, 4000)
        one_of_eight[:, 3] = sounds.noise(4000)
        for sound in (*ordinary, one_of_eight, torch.zeros(1, 2, 9)):
            assert torch.equal(to_mono(sound), sound.mean(dim=1))

    def test_each_clip_of_a_batch_for_itself(self):
        plain, other = sounds.noise(2, 500), sounds.noise(1, 500, seed=1)
        batch = torch.stack([plain, torch.cat([other, -other])])
        assert torch.equal(to_mono(batch), torch.stack([plain.mean(dim=0), other[0]]))

    def test_a_constant_does_not_hide_it(self):
        sound = sounds.noise(1, 4000)
        assert torch.equal(to_mono(torch.cat([sound, -sound])[None] + 0.3)[0], sound[0] + 0.3)

    def test_the_encoder_hears_it_as_one_channel(self):
        sound = sounds.noise(1, 16000)
        both = encoder_input(torch.cat([sound, -sound])[None], 16000)
        assert torch.allclose(both, encoder_input(sound[None], 16000), atol=1e-5)

    def test_a_file_too(self, tmp_path):
        sound = sounds.tone(0.5)[0].numpy()
        sounds.write_wav(tmp_path / "a.wav", np.stack([sound, -sound], axis=1), 48000)
        assert float(decode_audio(tmp_path / "a.wav", channels="mean")[0].abs().max()) > 0.4


class TestHeard:
    def test_a_silent_clip_of_a_batch_is_named(self):
        batch = sounds.noise(3, 1, 16000)
        require_heard(batch, 16000)
        batch[1] = 0.25  # a constant is silence
        with pytest.raises(AudioError, match=r"^Sound 2 of 3 is silent\."):
            require_heard(batch, 16000)
        batch[2] = 0.0
        with pytest.raises(AudioError, match=r"^Sound 2 of 3, Sound 3 of 3 are silent\."):
            require_heard(batch, 16000)

    def test_silence_where_it_is_heard(self):
        late = torch.cat([torch.zeros(1, 1, 11 * 16000), sounds.noise(1, 1, 16000)], dim=-1)
        with pytest.raises(
            AudioError, match=r"x\.wav is silent in the 10.24 s that the encoder uses \(first\).*loudest"
        ):
            require_heard(late, 16000, name="x.wav")
        for policy in ("loudest", "mean_of_windows"):
            require_heard(late, 16000, policy)

    def test_opposite_phase_is_heard(self):
        sound = sounds.noise(1, 1, 16000)
        require_heard(torch.cat([sound, -sound], dim=1), 16000)

    def test_too_short(self):
        with pytest.raises(AudioError, match=r"lasts 10 ms.*at least 25 ms"):
            require_heard(sounds.noise(1, 1, 160), 16000)
