"""The encoder's spectrogram against its oracles, Kaldi (through torchaudio) and its laws."""

from __future__ import annotations

import math

import pytest
import torch
from aai_pack.aai_models.audio import fbank
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.fbank import encoder_input, kaldi_fbank, mean_of_windows
from aai_pack.tests import sounds
from hypothesis import given, settings
from hypothesis import strategies as st

FLOOR = -15.942385


def kaldi(waveform: torch.Tensor) -> torch.Tensor:
    """The reference: torchaudio's port of Kaldi with CAV-MAE's options, (B, T) -> (B, frames, 128)."""
    compliance = pytest.importorskip("torchaudio.compliance.kaldi", exc_type=ImportError)
    options = {"htk_compat": True, "use_energy": False, "window_type": "hanning", "num_mel_bins": 128, "dither": 0.0}
    return torch.stack(
        [compliance.fbank(row[None], sample_frequency=16000, frame_shift=10, **options) for row in waveform]
    )


def normalised(value: float) -> float:
    return (value + 5.081) / 4.4849


@pytest.mark.parametrize(
    ("samples", "frames"), [(160000, 998), (80000, 498), (64000, 398), (400, 1), (399, 0), (164080, 1024)]
)
def test_frames(samples, frames):
    assert kaldi_fbank(torch.zeros(2, samples)).shape == (2, frames, 128)


def test_silence_stands_at_the_floor():
    assert kaldi_fbank(torch.zeros(1, 16000)).eq(kaldi_fbank(torch.zeros(1, 400))[0, 0, 0]).all()
    assert float(kaldi_fbank(torch.zeros(1, 400))[0, 0, 0]) == pytest.approx(FLOOR, abs=1e-6)


def test_channel_3_holds_no_bin():
    assert kaldi_fbank(sounds.noise(1, 16000))[..., 3].eq(kaldi_fbank(torch.zeros(1, 400))[0, 0, 0]).all()


def test_tone():
    frame = kaldi_fbank(sounds.tone(1.0, 16000, 1000.0, 0.5))[0, 50]
    assert sorted(frame.topk(2).indices.tolist()) == [43, 44]
    assert frame[[43, 44]].tolist() == pytest.approx([5.6266, 5.6019], abs=1e-3)


def test_gain_is_a_shift():
    loud, soft = kaldi_fbank(sounds.noise(1, 16000)), kaldi_fbank(0.1 * sounds.noise(1, 16000))
    heard = soft > FLOOR + 0.1
    assert (soft - loud)[heard].mean() == pytest.approx(-4.6052, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(decibels=st.floats(-30, 40), samples=st.integers(400, 20000), seed=st.integers(0, 99))
def test_a_gain_in_decibels_is_a_shift(decibels, samples, seed):
    """20 dB are ln(100) = 4.6052, wherever both are above the floor."""
    clip = sounds.noise(1, samples, seed=seed)
    before, after = kaldi_fbank(clip), kaldi_fbank(clip * 10 ** (decibels / 20))
    heard = (before > FLOOR + 1.0) & (after > FLOOR + 1.0)
    assert heard.any() and ((after - before)[heard] - decibels / 20 * 4.605170).abs().max() < 5e-3


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e-42])
def test_denormals_are_silence(scale):
    clip = sounds.noise(1, 16000, scale=1.0) * scale
    assert kaldi_fbank(clip).eq(kaldi_fbank(torch.zeros(1, 400))[0, 0, 0]).all()
    assert torch.isfinite(encoder_input(clip[None], 44100)).all()


@pytest.mark.parametrize("kind", ["noise", "tone", "chirp", "clicks", "silence", "offset", "tiny", "loud"])
def test_equals_kaldi(kind):
    time = torch.arange(32000) / 16000
    waveform = {
        "noise": sounds.noise(2, 32000),
        "tone": sounds.tone(2.0, 16000, 3000.0),
        "chirp": 0.7 * torch.sin(2 * math.pi * (100 + 1900 * time) * time)[None],
        "clicks": (torch.arange(32000) % 1600 == 0).float()[None],
        "silence": torch.zeros(1, 32000),
        "offset": sounds.noise(1, 32000) + 0.8,
        "tiny": sounds.noise(1, 32000, scale=1e-6),
        "loud": sounds.noise(1, 32000, scale=30.0),
    }[kind]
    assert (kaldi_fbank(waveform) - kaldi(waveform)).abs().max() < 1e-3


def test_equals_kaldi_on_real_recordings(recordings):
    from aai_pack.aai_models.audio.resample import resample

    paths = sorted(recordings.glob("*.*"))
    assert len(paths) >= 8
    for path in (p for p in paths if p.suffix in (".wav", ".flac", ".ogg", ".mp3", ".opus")):
        waveform, rate = decode_audio(path, channels="mean")
        waveform = resample(waveform, rate, 16000)[:, :160000]
        if waveform.shape[1] >= 400:
            assert (kaldi_fbank(waveform) - kaldi(waveform)).abs().max() < 1e-3, path.name


def test_many_frames_in_pieces_are_the_same(monkeypatch):
    whole = kaldi_fbank(sounds.noise(1, 50000))
    monkeypatch.setattr(fbank, "FRAMES_AT_ONCE", 17)
    assert torch.allclose(kaldi_fbank(sounds.noise(1, 50000)), whole, atol=1e-4)


@pytest.mark.parametrize("policy", fbank.SHORT_CLIP)
def test_short_clips(policy):
    features = encoder_input(sounds.noise(1, 1, 32000), 16000, short_clip=policy)
    heard = 198
    tail = features[0, 300:]
    assert features.shape == (1, 1024, 128)
    if policy == "pad_reference":
        assert torch.allclose(features[0, heard:], torch.tensor(1.1329), atol=1e-4)
    elif policy == "silence":
        assert torch.allclose(tail, torch.tensor(normalised(FLOOR)), atol=1e-5)
    else:
        assert torch.allclose(features[0, :190], features[0, 200:390], atol=1e-5)  # two seconds later, the sound again
        assert tail.mean() == pytest.approx(float(features[0, :heard].mean()), abs=0.02)


def test_noise_statistics():
    features = encoder_input(sounds.noise(1, 1, 164080), 16000)
    assert float(features.mean()) == pytest.approx(0.93, abs=0.01)
    assert float(features.std()) == pytest.approx(0.78, abs=0.01)


def test_long_clips():
    quiet, loud = sounds.noise(1, 1, 10 * 16000, scale=0.01), sounds.noise(1, 1, 11 * 16000, seed=1, scale=0.5)
    clip = torch.cat([quiet, quiet, loud, quiet], dim=-1)  # the loud part lies from 20 s to 31 s

    def mean(policy):
        return float(encoder_input(clip, 16000, long_clip=policy).mean())

    assert mean("first") < 0.1 < 1.2 < mean("loudest")
    assert torch.allclose(
        encoder_input(clip, 16000, long_clip="first"), encoder_input(clip[..., :164080], 16000), atol=1e-5
    )
    middle = (clip.shape[-1] - 164080) // 2
    assert torch.allclose(
        encoder_input(clip, 16000, long_clip="center"),
        encoder_input(clip[..., middle : middle + 164080], 16000),
        atol=1e-4,
    )
    windows = encoder_input(clip, 16000, long_clip="mean_of_windows")
    assert windows.shape == (4, 1024, 128)
    assert float(windows.mean(dim=(1, 2)).max()) > 1.2


def test_mean_of_windows_gives_unit_vectors():
    features = torch.nn.functional.normalize(sounds.noise(6, 16), dim=-1)
    mean = mean_of_windows(features, clips=2)
    assert torch.allclose(mean.norm(dim=-1), torch.ones(2))
    assert torch.allclose(mean[0], torch.nn.functional.normalize(features[:3].mean(dim=0), dim=-1))
    with pytest.raises(ValueError, match="cannot belong to 4 clips"):
        mean_of_windows(features, clips=4)


def test_channels_and_level():
    stereo = torch.cat([sounds.noise(1, 1, 164080), sounds.noise(1, 1, 164080, seed=1)], dim=1)
    first = encoder_input(stereo, 16000, channels="first")
    assert torch.equal(first, encoder_input(stereo[:, :1], 16000))
    assert torch.allclose(encoder_input(stereo, 16000), encoder_input(stereo.mean(dim=1, keepdim=True), 16000))
    loud = encoder_input(stereo, 16000, level="normalised")
    soft = encoder_input(0.01 * stereo, 16000, level="normalised")
    assert torch.allclose(loud, soft, atol=1e-3)
    assert not torch.allclose(first, encoder_input(0.01 * stereo, 16000), atol=0.5)


def test_an_offset_is_not_heard():
    clip = sounds.noise(1, 1, 100000)
    assert torch.allclose(encoder_input(clip + 0.5, 16000), encoder_input(clip, 16000), atol=2e-3)


@pytest.mark.parametrize(
    ("name", "value"), [("short_clip", "loop"), ("long_clip", "last"), ("channels", "left"), ("level", 1)]
)
def test_unknown_policies(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*known are"):
        encoder_input(torch.zeros(1, 1, 16000), 16000, **{name: value})


@pytest.mark.parametrize(
    "waveform", [torch.zeros(1, 1, 0), torch.full((1, 1, 500), float("nan")), torch.zeros(1, 1, 1, 9)]
)
def test_sounds_that_are_none(waveform):
    with pytest.raises(AudioError):
        encoder_input(waveform, 16000)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 8),
    samples=st.integers(1, 30000),
    rate=st.sampled_from([1, 50, 4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000, 384000]),
    short_clip=st.sampled_from(fbank.SHORT_CLIP),
    long_clip=st.sampled_from(["first", "center", "loudest"]),
)
def test_any_sound_has_one_shape_and_batch_equals_loop(batch, channels, samples, rate, short_clip, long_clip):
    samples = min(samples, 30 * rate)
    clip = sounds.noise(batch, channels, samples)
    policies = {"short_clip": short_clip, "long_clip": long_clip}
    together = encoder_input(clip, rate, **policies)
    assert together.shape == (batch, 1024, 128) and torch.isfinite(together).all()
    apart = torch.cat([encoder_input(row[None], rate, **policies) for row in clip])
    assert torch.allclose(together, apart, atol=1e-3)
    assert torch.equal(together, encoder_input(clip, rate, **policies))
