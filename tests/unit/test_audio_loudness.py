"""Loudness against the standard's table and tones, an independent meter, and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.loudness import integrated, k_weighting, momentary, to_scale
from aai_pack.tests import sounds
from hypothesis import given, settings
from hypothesis import strategies as st


def lufs(waveform: torch.Tensor, sample_rate: int) -> float:
    return float(integrated(waveform.reshape(1, -1, waveform.shape[-1]), sample_rate)[0])


def independent(waveform: torch.Tensor, sample_rate: int) -> float:
    """pyloudnorm with De Man's filters; waveform (C, T)."""
    import pyloudnorm

    return pyloudnorm.Meter(sample_rate, filter_class="DeMan").integrated_loudness(waveform.T.double().numpy())


def test_filters_are_the_standards_table():
    shelf, high_pass = k_weighting(48000)
    expected = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    assert shelf.tolist() == pytest.approx(expected, abs=1e-10)
    assert high_pass.tolist() == pytest.approx([1, -2, 1, 1, -1.99004745483398, 0.99007225036621], abs=1e-10)


@pytest.mark.parametrize(("rate", "expected"), [(48000, -3.010), (44100, -3.008), (16000, -2.970)])
def test_calibration_tone(rate, expected):
    tone = sounds.tone(5.0, rate, 997.0, 1.0)
    assert lufs(tone, rate) == pytest.approx(expected, abs=2e-3)
    assert lufs(0.1 * tone, rate) == pytest.approx(expected - 20, abs=2e-3)
    # EBU Tech 3341: the same tone in both channels at -23 dBFS reads -23 LUFS.
    stereo = (tone * 10 ** (-23 / 20)).repeat(2, 1)
    assert lufs(stereo, rate) == pytest.approx(expected - 23 + 3.010, abs=0.01)


def test_noise():
    assert lufs(sounds.noise(1, 480000), 48000) == pytest.approx(-16.85, abs=0.02)


def test_surround_weights():
    parts = torch.zeros(6, 5 * 48000)
    tone = sounds.tone(5.0, 48000, 997.0)[0]
    for channel, gain in enumerate((1, 1, 1, 0, 1.41, 1.41)):
        alone = parts.clone()
        alone[channel] = tone
        expected = lufs(tone[None], 48000) + 10 * math.log10(gain) if gain else -math.inf
        assert lufs(alone, 48000) == pytest.approx(expected, abs=1e-6)


def test_gates():
    """EBU Tech 3341, case 3 in kind: a soft part more than 10 LU below does not count."""
    loud, soft = sounds.tone(20.0, 48000, 997.0, 0.1), sounds.tone(20.0, 48000, 997.0, 0.01)
    assert lufs(torch.cat([soft, loud, soft], dim=-1), 48000) == pytest.approx(lufs(loud, 48000), abs=0.1)
    silent = torch.zeros(1, 60 * 48000)
    assert lufs(torch.cat([silent, loud], dim=-1), 48000) == pytest.approx(lufs(loud, 48000), abs=0.1)


def test_silence_and_short_clips():
    assert lufs(torch.zeros(1, 48000), 48000) == -math.inf
    assert lufs(torch.zeros(1, 1), 48000) == -math.inf
    assert lufs(sounds.tone(0.2, 48000, 997.0, 1.0), 48000) == pytest.approx(-3.01, abs=0.2)
    assert math.isfinite(lufs(torch.ones(1, 1), 48000))


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e-42])
def test_denormals_are_silence(scale):
    assert lufs(sounds.noise(1, 48000, scale=1.0) * scale, 48000) == -math.inf


def test_an_offset_is_not_loud():
    """The high-pass takes a constant away but for its beginning."""
    clip = sounds.noise(1, 5 * 48000)
    assert lufs(clip + 0.5, 48000) == pytest.approx(lufs(clip, 48000), abs=0.1)


def test_curves():
    tone = torch.cat([sounds.tone(5.0, 48000, 997.0, 0.1), sounds.tone(5.0, 48000, 997.0, 1.0)], dim=-1)
    curve = momentary(tone[None], 48000)[0]
    assert curve.shape == (97,)
    assert curve[10].item() == pytest.approx(-23.01, abs=0.01) and curve[-1].item() == pytest.approx(-3.01, abs=0.01)


def test_a_long_clip_in_chunks_is_the_same(monkeypatch):
    from aai_pack.aai_models.audio import loudness

    clip = sounds.noise(2, 2, 30 * 8000)
    whole = momentary(clip, 8000)
    monkeypatch.setattr(loudness, "CHUNK", 7)
    assert torch.allclose(momentary(clip, 8000), whole, atol=1e-9)


def test_equals_an_independent_meter_on_real_recordings(recordings):
    """Parts of real recordings at several levels and rates: at least 50 of them."""
    compared = 0
    for path in sorted(recordings.iterdir()):
        if path.suffix not in (".wav", ".flac", ".ogg", ".mp3", ".opus"):
            continue
        waveform, rate = decode_audio(path)
        for part in [waveform, *waveform.tensor_split(3, dim=1)]:
            # Whole steps of 200 ms: pyloudnorm counts half a block more as a full one, the standard does not.
            part = part[:, : part.shape[1] * 5 // rate * rate // 5]
            for gain in (1.0, 0.2, 0.03):
                if part.shape[1] > 0.45 * rate and float(part.abs().max()) > 1e-3:
                    theirs = independent(gain * part, rate)
                    if math.isfinite(theirs):
                        assert lufs(gain * part, rate) == pytest.approx(theirs, abs=0.1), path.name
                        compared += 1
    assert compared >= 50


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
def test_equals_an_independent_meter_at_every_rate(rate):
    clip = sounds.noise(2, 3 * rate) * torch.linspace(0.01, 1.0, 3 * rate)
    assert lufs(clip, rate) == pytest.approx(independent(clip, rate), abs=0.02)


@settings(max_examples=30, deadline=None)
@given(
    gain=st.floats(-30, 30),
    rate=st.sampled_from([1000, 8000, 16000, 44100, 48000]),
    channels=st.integers(1, 8),
    seconds=st.floats(0.01, 2.0),
)
def test_a_gain_in_decibels_is_a_gain_in_lu(gain, rate, channels, seconds):
    clip = sounds.noise(1, channels, max(1, int(seconds * rate)), scale=0.2)
    before, after = integrated(clip, rate), integrated(clip.double() * 10 ** (gain / 20), rate)
    if float(before) + gain > -50 and float(before) > -50:  # far from the absolute gate
        assert float(after - before) == pytest.approx(gain, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 4), samples=st.integers(1, 40000), rate=st.integers(1, 200000))
def test_batch_equals_loop_at_any_rate(batch, samples, rate):
    clip = sounds.noise(batch, 2, min(samples, 60 * rate))
    together = integrated(clip, rate)
    assert together.shape == (batch,) and not torch.isnan(together).any()
    assert torch.allclose(together, torch.cat([integrated(row[None], rate) for row in clip]))


class TestScale:
    @pytest.mark.parametrize(
        ("level", "scale"), [(-43, 0.25), (-33, 0.5), (-23, 1.0), (-18, 1.4142), (-13, 2.0), (-3, 2.0)]
    )
    def test_sone(self, level, scale):
        assert to_scale(level) == pytest.approx(scale, abs=1e-4)

    @pytest.mark.parametrize(("level", "scale"), [(-50, 0.0), (-43, 0.0), (-33, 0.5), (-23, 1.0), (-3, 2.0), (0, 2.0)])
    def test_linear(self, level, scale):
        assert to_scale(level, "linear_lu") == pytest.approx(scale)

    def test_relative_and_manual(self):
        assert to_scale(-31.5, "relative", reference=-31.5) == 1.0
        assert to_scale(-31.5, "manual", manual=0.7) == pytest.approx(0.7)
        assert to_scale(-31.5, "manual", manual=9.0) == 2.0

    def test_silence_is_zero_and_louder_is_more(self):
        curve = to_scale(torch.tensor([-math.inf, -60.0, -40.0, -23.0, -10.0, 10.0]))
        assert curve[0] == 0 and (curve.diff() >= 0).all() and curve[-1] == 2.0

    def test_refusals(self):
        with pytest.raises(ValueError, match="known are sone, linear_lu, relative, manual"):
            to_scale(-20.0, "phon")
        with pytest.raises(AudioError, match="reference loudness"):
            to_scale(-20.0, "relative", reference=-math.inf)
        with pytest.raises(AudioError, match="The loudness is NaN"):
            to_scale(float("nan"))


@pytest.mark.parametrize("waveform", [np.zeros((1, 1, 9)), torch.zeros(2, 2, 2, 2), torch.full((1, 1, 9), math.inf)])
def test_no_sound_is_refused(waveform):
    with pytest.raises(AudioError):
        integrated(waveform, 48000)
