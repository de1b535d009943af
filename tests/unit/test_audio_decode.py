"""Decoding: every format, exact parts of long files, and files that are not what they say."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from aai_pack.aai_models.audio import placed
from aai_pack.aai_models.audio.decode import decode_audio, open_media, probe
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.loudness import integrated
from aai_pack.aai_models.audio.resample import resample
from aai_pack.aai_models.audio.waveform import as_waveform
from aai_pack.tests import sounds

LOSSLESS = ("wav", "wav24", "flac", "aiff")
VORBIS = "ogg"  # which this PyAV reads but does not write


def some_sound(folder, kind, recordings, seconds: float):
    """A short file of each format."""
    if kind == VORBIS:
        return Path(shutil.copy(recordings / "house_lo.ogg", folder))
    return sounds.write_encoded(folder / f"a.{kind}", sounds.tone(seconds), 48000, kind)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", sounds.FORMATS)
def test_formats(tmp_path, kind, channels):
    waveform = torch.cat([sounds.tone(1.0, frequency=300.0 * (1 + c)) for c in range(channels)])
    path = sounds.write_encoded(tmp_path / f"a.{kind}", waveform, 48000, kind)
    decoded, rate = decode_audio(path)
    assert rate == 48000 and decoded.shape[0] == channels and decoded.dtype == torch.float32
    if kind in LOSSLESS:
        assert decoded.shape == waveform.shape
        assert (decoded - waveform).abs().max() < 2**-14
    else:
        assert abs(decoded.shape[1] - 48000) <= 4096  # a lossy codec's own padding
        for c in range(channels):  # the channels stay apart
            spectrum = torch.fft.rfft(decoded[c, 8000:40000]).abs()
            assert int(spectrum.argmax()) * 48000 / 32000 == pytest.approx(300.0 * (1 + c), abs=3)


@pytest.mark.parametrize("channels", [6, 8])
def test_surround(tmp_path, channels):
    waveform = sounds.noise(channels, 4800)
    sounds.write_wav(tmp_path / "a.wav", waveform.T.numpy(), 48000)
    decoded, _ = decode_audio(tmp_path / "a.wav")
    assert (decoded - waveform).abs().max() < 2**-13


def test_the_same_recording_in_every_format_sounds_the_same(recordings):
    """One loop as wav, flac, ogg (Vorbis), mp3 and opus."""
    reference, rate = decode_audio(recordings / "house_lo.wav", channels="mean")
    for suffix in ("flac", "ogg", "mp3", "opus"):
        path = recordings / f"house_lo.{suffix}"
        other, other_rate = decode_audio(path, channels="mean")
        other = resample(other, other_rate, rate)
        assert other.shape[1] / rate == pytest.approx(reference.shape[1] / rate, abs=0.2)  # an encoder's padding
        assert float(integrated(other[None], rate)) == pytest.approx(float(integrated(reference[None], rate)), abs=0.5)
        part = decode_audio(path, start=2.0, duration=1.0, channels="mean")[0]
        whole = decode_audio(path, channels="mean")[0][:, 2 * other_rate : 3 * other_rate]
        assert part.shape == whole.shape
        assert torch.allclose(part, whole, atol=1e-4 if suffix in ("flac", "ogg") else 0.05), suffix


def test_channel_policies(tmp_path):
    waveform = sounds.noise(2, 4800)
    path = sounds.write_encoded(tmp_path / "a.wav", waveform, 48000, "wav")
    everything = decode_audio(path)[0]
    assert torch.equal(decode_audio(path, channels="first")[0], everything[:1])
    assert torch.equal(decode_audio(path, channels="mean")[0], everything.mean(dim=0, keepdim=True))
    with pytest.raises(ValueError, match="known are all, mean, first"):
        decode_audio(path, channels="left")


@pytest.mark.parametrize("start", [0.0, 0.05, 0.7321, 2.5, 2.999])
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_part_is_exact_to_the_sample(tmp_path, kind, start):
    waveform = sounds.noise(1, 3 * 44100)
    path = sounds.write_encoded(tmp_path / f"a.{kind}", waveform, 44100, kind)
    whole = decode_audio(path)[0]
    part, rate = decode_audio(path, start=start, duration=0.25)
    first = round(start * rate)
    assert torch.equal(part, whole[:, first : first + round(0.25 * rate)])


@pytest.mark.parametrize("kind", ["mp3", "opus", "m4a", "webm"])
def test_a_part_of_a_compressed_file_lies_where_it_should(tmp_path, kind):
    """A click train: the part must hold the clicks that the whole holds there, to a millisecond."""
    waveform = sounds.noise(1, 10 * 48000, scale=0.001)
    waveform[:, 12000::48000] = 0.9  # at 0.25 s, 1.25 s, ...
    path = sounds.write_encoded(tmp_path / f"a.{kind}", waveform, 48000, kind)
    part, rate = decode_audio(path, start=6.0, duration=1.0)
    assert part.shape == (1, 48000)
    assert int(part.abs().argmax()) / rate == pytest.approx(0.25, abs=0.05)
    whole, _ = decode_audio(path)
    expected = int(whole[0, 6 * rate : 7 * rate].abs().argmax())
    assert int(part.abs().argmax()) == pytest.approx(expected, abs=48)


def test_a_part_of_hours_reads_only_that_part(tmp_path):
    path = tmp_path / "long.wav"
    sounds.write_long_wav(path, 7200, 48000, 3600, np.full(48000, 0.5))
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    part, rate = decode_audio(path, start=3600.0, duration=1.0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert part.shape == (1, rate) and float(part.min()) > 0.49
    assert grown < 100  # megabytes; the file holds 690


def test_sound_of_a_video(tmp_path):
    path = sounds.write_encoded(tmp_path / "film.mp4", sounds.tone(1.0), 48000, "m4a", picture=True)
    decoded, rate = decode_audio(path)
    assert rate == 48000 and decoded.shape[1] >= 47000 and decoded.abs().max() > 0.4
    assert probe(path).codec == "aac"


def test_video_without_sound(tmp_path):
    import av

    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match=r"mute\.mp4 has no sound in it"):
        decode_audio(path)


def test_probe(tmp_path):
    info = probe(sounds.write_encoded(tmp_path / "a.flac", sounds.noise(2, 44100), 44100, "flac"))
    assert (info.sample_rate, info.channels, info.codec) == (44100, 2, "flac")
    assert info.duration == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [*sounds.FORMATS, VORBIS])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_truncated_files_give_what_is_there_or_say_so(tmp_path, recordings, kind, share):
    path = some_sound(tmp_path, kind, recordings, 2.0)
    whole = decode_audio(path)[0].shape[1]
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    try:
        decoded, _ = decode_audio(path)
    except AudioError as error:
        assert path.name in str(error)
    else:
        assert 0 < decoded.shape[1] <= 1.05 * whole and torch.isfinite(decoded).all()


@pytest.mark.parametrize(
    "content", [b"\0" * 4096, b"not a sound\n" * 500, b"RIFF\xff\xff\xff\xffWAVE", b"OggS" * 99, b"ID3"]
)
@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg", "txt"])
def test_files_that_are_no_sound(tmp_path, content, suffix):
    path = tmp_path / f"no.{suffix}"
    path.write_bytes(content)
    try:
        decoded, _ = decode_audio(path)
    except AudioError as error:
        assert "no." in str(error) and len(str(error)) < 400
    else:  # mp3 takes almost any bytes for sound
        assert decoded.numel() > 0


def test_wrong_suffix_is_no_obstacle(tmp_path):
    path = sounds.write_encoded(tmp_path / "a.mp3", sounds.tone(0.5), 48000, "wav")
    assert decode_audio(path)[0].shape == (1, 24000)


def test_missing_folder_and_empty(tmp_path):
    with pytest.raises(AudioError, match=r"no file gone\.wav"):
        decode_audio(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="no file"):
        decode_audio(tmp_path)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(AudioError, match="empty"):
        decode_audio(tmp_path / "empty.wav")


def test_start_beyond_the_end_names_the_length(tmp_path):
    path = sounds.write_encoded(tmp_path / "a.wav", sounds.tone(1.0), 48000, "wav")
    with pytest.raises(AudioError, match=r"ends before 5 s \(it lasts 1\.00 s\)"):
        decode_audio(path, start=5.0)


@pytest.mark.parametrize(("start", "duration"), [(-1.0, 1.0), (float("nan"), 1.0), (0.0, 0.0), (0.0, float("inf"))])
def test_impossible_parts(tmp_path, start, duration):
    with pytest.raises(AudioError, match="begins at 0 or later"):
        decode_audio(tmp_path / "a.wav", start=start, duration=duration)


@pytest.mark.parametrize("rate", [1, 100, 8000, 384000])
def test_unusual_rates(tmp_path, rate):
    path = tmp_path / "a.wav"
    sounds.write_wav(path, np.zeros(rate), rate)
    decoded, decoded_rate = decode_audio(path)
    assert decoded.shape == (1, rate) and decoded_rate == rate


@pytest.mark.parametrize(("channels", "wanted"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_frame_of_another_kind_becomes_like_the_first(channels, wanted):
    frame = sounds.tone(0.5, 24000, 700.0).repeat(channels, 1).numpy()
    alike = torch.from_numpy(placed.alike(frame, 24000, wanted, 48000))
    assert alike.shape == (wanted, 24000)
    assert (alike - sounds.tone(0.5, 48000, 700.0))[:, 100:-100].abs().max() < 1e-2


@pytest.mark.parametrize("second_rate", [24000, 44100])
@pytest.mark.parametrize("channels", [(1, 1), (2, 1), (1, 2)])
def test_a_recording_that_changes_in_the_middle(tmp_path, second_rate, channels):
    """Two mp3 files put together: the second half keeps its pitch and its length."""
    parts = []
    for index, (rate, count) in enumerate(zip((48000, second_rate), channels, strict=True)):
        sound = sounds.tone(1.0, rate, (500.0, 1500.0)[index]).repeat(count, 1)
        options = {"write_xing": "0", "id3v2_version": "0"}  # nothing that tells where the first part ends
        parts.append(sounds.write_encoded(tmp_path / f"{index}.mp3", sound, rate, "mp3", options=options).read_bytes())
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(parts))
    decoded, rate = decode_audio(path)
    assert rate in (48000, second_rate) and decoded.shape[0] in channels  # what FFmpeg takes for the file's own
    assert decoded.shape[1] / rate == pytest.approx(2.0, abs=0.2)
    for start, frequency in ((0.2, 500.0), (1.4, 1500.0)):
        spectrum = torch.fft.rfft(decoded[0, int(start * rate) : int(start * rate) + rate // 4]).abs()
        assert int(spectrum.argmax()) * 4 == pytest.approx(frequency, abs=8)


@pytest.mark.parametrize("rate", [0, 2**31 - 1, 2**32 - 1])
def test_a_header_that_names_an_impossible_rate(tmp_path, rate):
    path = tmp_path / "a.wav"
    sounds.write_wav(path, np.full(1000, 0.5), 16000)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(AudioError):
        waveform, found = decode_audio(path)
        as_waveform({"waveform": waveform, "sample_rate": found})


@pytest.mark.parametrize("kind", [*sounds.FORMATS, VORBIS])
def test_flipped_bytes_give_a_sound_or_an_error(tmp_path, recordings, kind):
    path = some_sound(tmp_path, kind, recordings, 0.5)
    data = path.read_bytes()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        damaged = bytearray(data)
        for place in rng.integers(0, len(data) if seed % 2 else min(200, len(data)), 1 + 3 * seed):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            decoded, rate = decode_audio(path, duration=2.0)
        except AudioError as error:
            assert path.name in str(error)
        else:
            assert rate > 0 and 0 < decoded.shape[1] <= 2.0 * rate


def test_floats_beyond_one_are_kept(tmp_path):
    path = tmp_path / "a.wav"
    sounds.write_float_wav(path, np.array([0.0, 3.5, -7.0, 1e-42]))
    assert decode_audio(path)[0][0].tolist() == pytest.approx([0.0, 3.5, -7.0, 0.0])


@pytest.mark.parametrize(
    "name", ["two words.wav", "späß.wav", "音.wav", "a%20b#c?.wav", "file:x.wav", "-i.wav", "a.wav.wav"]
)
def test_hostile_names(tmp_path, name):
    path = tmp_path / name
    sounds.write_wav(path, np.zeros(100))
    assert decode_audio(path)[0].shape == (1, 100)


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "caf\udce9.wav"
    try:
        sounds.write_wav(path, np.zeros(100))
    except (OSError, UnicodeError):
        pytest.skip("this file system holds UTF-8 names alone")
    try:
        assert decode_audio(path)[0].shape == (1, 100)
    except AudioError as error:
        assert "cannot be read" in str(error)


@pytest.mark.parametrize(("version", "arguments"), [("18.1.0", {"metadata_errors": "replace"}), ("19.0.2", {})])
def test_tags_of_another_encoding(tmp_path, monkeypatch, version, arguments):
    """Old versions of PyAV must be told to read them, new ones refuse to be told."""
    path, given = tmp_path / "cafe.wav", []
    sounds.write_encoded(path, sounds.noise(1, 800), 8000, "wav")
    chunks = path.read_bytes()[8:] + b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"caf\xe9"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    assert decode_audio(path)[0].shape == (1, 800), "by the version that is here"

    monkeypatch.setattr(av, "__version__", version)
    monkeypatch.setattr(av, "open", lambda _, **kwargs: given.append(kwargs))
    open_media(str(path))
    assert given == [arguments]
