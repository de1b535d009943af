"""Outlines of whole recordings, read in a stream, against the same measures of the decoded whole."""

from __future__ import annotations

import math
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from aai_pack.aai_models.audio import outline
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.loudness import integrated
from aai_pack.aai_models.audio.outline import Outline


def write(path, seconds: float, rate: int, channels: int = 1, seed: int = 0):
    """Noise that swells and falls, with a click at each whole second."""
    count = int(seconds * rate)
    noise = np.random.default_rng(seed).normal(size=(count, channels)) * 3000
    noise *= (0.05 + np.abs(np.sin(np.arange(count) / rate / 3)))[:, None]
    noise[::rate] = 30000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(noise.clip(-32768, 32767).astype("<i2").tobytes())
    return path


def traced(path, **options) -> Outline:
    found = Outline()
    assert found.trace(path, **options)
    return found


@pytest.mark.parametrize(("seconds", "rate", "channels"), [(25.03, 11025, 1), (31.0, 44100, 2), (0.05, 8000, 1)])
def test_it_is_what_the_whole_gives(tmp_path, seconds, rate, channels):
    path = write(tmp_path / "a.wav", seconds, rate, channels)
    found = traced(path)
    waveform, _ = decode_audio(path)
    assert found.seconds == pytest.approx(waveform.shape[1] / rate, abs=1e-9)
    assert len(found.peaks) == math.ceil(waveform.shape[1] / rate * 10 - 1e-9)
    loudest = waveform.abs().max(dim=0).values
    for step in (0, len(found.peaks) // 2, len(found.peaks) - 1):
        part = loudest[round(step * rate / 10) : round((step + 1) * rate / 10)]
        assert found.peaks[step] == pytest.approx(float(part.max()), abs=1e-6)
    assert found.lufs() == pytest.approx(float(integrated(waveform[None], rate)[0]), abs=0.1)
    if seconds > 20:
        part = decode_audio(path, start=7.0, duration=10.24)[0]
        assert found.lufs(7.0, 10.24) == pytest.approx(float(integrated(part[None], rate)[0]), abs=0.1)
        assert found.lufs(100.0, 10.0) == -math.inf


def test_portions_do_not_matter(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", 12.0, 22050)
    whole = traced(path)
    monkeypatch.setattr("aai_pack.aai_models.audio.decode.STREAMED", 0.03)
    again = traced(path)
    assert again.peaks == whole.peaks
    assert np.allclose(again.mean_squares, whole.mean_squares, rtol=1e-3)


def test_bars_keep_every_peak(tmp_path):
    found = traced(write(tmp_path / "a.wav", 30.0, 8000))
    for most in (1, 7, 100, 1000):
        bars = found.bars(most)
        assert len(bars) == min(most, len(found.peaks))
        assert max(bars) == pytest.approx(max(found.peaks), abs=1e-3)
    assert Outline().bars(10) == [] and Outline().lufs() == -math.inf


def test_it_stops_when_nobody_looks(tmp_path, monkeypatch):
    monkeypatch.setattr("aai_pack.aai_models.audio.decode.STREAMED", 1.0)
    found, left = Outline(), iter([True, True, False])
    assert not found.trace(write(tmp_path / "a.wav", 20.0, 8000), go_on=lambda: next(left))
    assert 2 <= found.seconds < 5


def test_the_first_track_that_is_not_silent(tmp_path):
    path = tmp_path / "two.mka"
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(2)]
        for number, track in enumerate(tracks):
            samples = (number * 10000 * np.ones((1, 8000))).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
            container.mux([*track.encode(frame), *track.encode(None)])
    assert max(traced(path).peaks) == pytest.approx(10000 / 2**15, abs=1e-4)
    assert max(traced(path, stream=1).peaks) == 0


def test_what_is_no_sound(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    with pytest.raises(AudioError, match=r"a\.wav cannot be read"):
        Outline().trace(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="There is no file"):
        Outline().trace(tmp_path / "gone.wav")


def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch):
    """Only a portion is held at once, however long the file."""
    held = []
    note = outline._Tracer.add
    monkeypatch.setattr(
        outline._Tracer, "add", lambda self, samples: (held.append(samples.shape[1]), note(self, samples))
    )
    traced(write(tmp_path / "a.wav", 95.0, 8000))
    assert len(held) >= 9 and max(held) < 11 * 8000
