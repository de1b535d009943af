"""Files as they lie on disks: damaged in the middle, joined, with several sound tracks, or a track that starts late."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from aai_pack.aai_models.audio.decode import decode_audio, decode_part
from aai_pack.aai_models.audio.errors import AudioError

RATE = 48000
# suffix -> container, codec
KINDS = {
    "mp3": ("mp3", "libmp3lame"),
    "aac": ("adts", "aac"),
    "ts": ("mpegts", "aac"),
    "m4a": ("mp4", "aac"),
    "mkv": ("matroska", "aac"),
    "ac3": ("ac3", "ac3"),
    "mpg": ("mpeg", "mp2"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
}
PICTURES = {"mpeg": "mpeg1video"}
STEP = 0.5  # seconds that each pitch of the stairs lasts


def pitch(time: float) -> float:
    """Hz at a time (seconds) of `stairs`."""
    return 400.0 + 150.0 * (int(time / STEP) % 37)


def stairs(seconds: float) -> np.ndarray:
    """A tone (T,) whose pitch tells the time."""
    hertz = np.repeat([pitch(k * STEP + 0.01) for k in range(int(seconds / STEP) + 1)], int(STEP * RATE))
    return (0.4 * np.sin(2 * np.pi * np.cumsum(hertz[: int(seconds * RATE)]) / RATE)).astype(np.float32)


def write(path, tracks: list[np.ndarray], late: float = 0.0, picture: bool = False, options=None):
    """Mono sound tracks (T,) in one of `KINDS`, each beginning at `late` seconds; `picture` adds a video from 0 s."""
    container_format, codec = KINDS[path.suffix[1:]]
    with av.open(str(path), "w", format=container_format, options=options or {}) as container:
        packets = []
        if picture:
            video = container.add_stream(PICTURES.get(container_format, "mpeg4"), rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream(codec, rate=RATE, layout="mono") for _ in tracks]
        if picture:
            image = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            for index in range(int(25 * (late + len(tracks[0]) / RATE))):
                image.pts, image.time_base = index, Fraction(1, 25)
                packets += video.encode(image)
            packets += video.encode(None)
        for stream, samples in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, int(late * RATE), Fraction(1, RATE)
            resampler = av.AudioResampler(
                format=stream.codec_context.format, layout="mono", rate=RATE, frame_size=stream.frame_size or 1024
            )
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += stream.encode(piece)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            container.mux(packet)
    return path


def damage(path, at: float, packets: int = 3, kept: int = 16):
    """Overwrite so many packets from `at` seconds on, but for their first `kept` bytes (headers)."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        origin = (container.start_time or 0) / 1e6
        found = [
            (p.pos, p.size)
            for p in container.demux(track)
            if p.size and p.pos is not None and float(p.pts * p.time_base) - origin >= at
        ]
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for pos, size in found[:packets]:
        data[pos + kept : pos + size] = rng.integers(0, 255, size - kept, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data))
    return path


def damage_bytes(path, share: float, count: int = 1500):
    """Overwrite bytes in the middle of a file whose packets have no place of their own."""
    data = bytearray(path.read_bytes())
    place = int(share * len(data))
    data[place : place + count] = np.random.default_rng(2).integers(0, 255, count, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data))
    return path


def heard(waveform: torch.Tensor, rate: int, at: float) -> float:
    """The pitch (Hz) of the 200 ms that begin `at` seconds in; 0 for silence."""
    part = waveform[0, int(at * rate) : int((at + 0.2) * rate)]
    if float(part.abs().max()) < 1e-3:
        return 0.0
    spectrum = torch.fft.rfft(part * torch.hann_window(len(part)), n=1 << 16).abs()
    return int(spectrum.argmax()) * rate / (1 << 16)


def assert_stairs(waveform, rate: int, start: float, seconds: float, but=()) -> None:
    """`waveform` is `stairs` from `start` on, but for the seconds of the ranges in `but`."""
    assert waveform.shape[1] == pytest.approx(seconds * rate, abs=1)
    for k in range(int(start / STEP) + 1, int((start + seconds) / STEP) - 1):
        middle = k * STEP + 0.15
        if any(low - STEP <= middle <= high + STEP for low, high in but):
            continue
        assert heard(waveform, rate, middle - start) == pytest.approx(pitch(middle), abs=12), f"at {middle} s"


@pytest.mark.parametrize("tag", [20, 60_000])
@pytest.mark.parametrize("xing", ["0", "1"])
def test_two_mp3_joined_with_a_tag_between(tmp_path, tag, xing):
    """As of `copy /b a.mp3+b.mp3`: the second file's ID3 tag, with its cover, is no sound."""
    whole, options = stairs(40), {"write_xing": xing, "id3v2_version": "0"}
    for name, samples in (("a", whole[: 12 * RATE]), ("b", whole[12 * RATE :])):
        write(tmp_path / f"{name}.mp3", [samples], options=options)
    size = bytes((tag >> shift) & 127 for shift in (21, 14, 7, 0))
    cover = np.random.default_rng(0).integers(0, 255, tag, dtype=np.uint8).tobytes()
    path = tmp_path / "joined.mp3"
    path.write_bytes(
        (tmp_path / "a.mp3").read_bytes() + b"ID3\x04\x00\x00" + size + cover + (tmp_path / "b.mp3").read_bytes()
    )
    everything, rate = decode_audio(path)
    assert everything.shape[1] / rate == pytest.approx(40, abs=0.5)
    for at in (5.15, 11.15):
        assert heard(everything, rate, at) == pytest.approx(pitch(at), abs=12)
    tail = everything.flip(1)  # where the second part begins depends on how the tag is read: count from the end
    assert any(heard(tail, rate, 10 + shift) == pytest.approx(pitch(30 - 0.15), abs=12) for shift in (-0.2, 0.0, 0.2))
    part = decode_part(path, start=5.0, duration=10.24)
    assert part.waveform.shape[1] == round(10.24 * rate)
    assert_stairs(part.waveform[:, : 6 * rate], rate, 5.0, 6.0)
    assert heard(part.waveform, rate, 9.3) > 0  # behind the tag


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_packets_are_skipped_and_counted(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", [stairs(40)])
    clean = decode_part(path, start=8.0, duration=10.24)
    assert clean.damaged == 0
    path = damage_bytes(path, 0.3, 3000) if kind in ("ts", "mpg") else damage(path, 12.0)
    hurt = [(11.5, 12.6)]
    for start in (0.0, 8.0, 11.0, 14.0, 20.0):
        part = decode_part(path, start=start, duration=10.24)
        assert torch.isfinite(part.waveform).all()
        assert_stairs(part.waveform, part.sample_rate, start, 10.24, hurt)
    whole, rate = decode_audio(path)
    assert whole.shape[1] / rate == pytest.approx(40, abs=0.2)
    assert heard(whole, rate, 38.15) == pytest.approx(pitch(38.15), abs=12)


@pytest.mark.parametrize(("kind", "kept"), [("mp3", 0), ("aac", 16), ("m4a", 0)])
def test_the_count_of_damaged_packets(tmp_path, kind, kept):
    path = damage(write(tmp_path / f"a.{kind}", [stairs(20)]), 12.0, 4, kept)
    assert decode_part(path, duration=10.24).notes() == []  # the part before it is whole
    hurt = decode_part(path, start=8.0, duration=10.24)
    assert 1 <= hurt.damaged <= 8 and 0.0 <= hurt.missing < 0.3
    assert f"{hurt.damaged} packets could not be decoded" in hurt.notes()[0]
    assert decode_part(path, start=14.0, duration=5.0).notes() == []


@pytest.mark.parametrize("codec", ["mp2", "ac3"])
@pytest.mark.parametrize("picture", [False, True])
def test_any_start_of_an_mpeg_program_stream(tmp_path, monkeypatch, codec, picture):
    monkeypatch.setitem(KINDS, "mpg", ("mpeg", codec))
    path = write(tmp_path / "a.mpg", [stairs(20)], picture=picture)
    for start in (0.0, 0.3, 5.0, 12.3):
        part = decode_part(path, start=start, duration=5.0)
        assert_stairs(part.waveform, part.sample_rate, start, 5.0)
        assert part.damaged == 0  # a packet that seeking cut is no damage


@pytest.mark.parametrize("picture", [False, True])
@pytest.mark.parametrize("kind", ["mkv", "m4a"])
def test_a_track_that_starts_late_keeps_the_containers_time(tmp_path, kind, picture):
    path = write(tmp_path / f"a.{kind}", [stairs(8)], late=3.0, picture=picture)
    start, rate = decode_audio(path, duration=5.0)
    assert start.shape[1] == 5 * rate
    assert not start[:, : int(2.95 * rate)].any() and heard(start, rate, 3.15) == pytest.approx(pitch(0.15), abs=12)
    for begin in (1.0, 3.2, 4.0):
        part, rate = decode_audio(path, start=begin, duration=5.0)
        assert part.shape[1] == 5 * rate
        for at in (4.65, 5.15):
            assert heard(part, rate, at - begin) == pytest.approx(pitch(at - 3.0), abs=12)


@pytest.mark.parametrize("kind", ["ts", "mpg"])
def test_a_late_track_of_a_stream_with_a_picture(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", [stairs(8)], late=3.0, picture=True)
    part, rate = decode_audio(path, start=2.0, duration=4.0)
    assert heard(part, rate, 0.2) == 0 and heard(part, rate, 2.15) == pytest.approx(pitch(1.15), abs=12)


def test_a_file_cut_out_of_a_longer_one_begins_with_its_sound(tmp_path):
    path = write(tmp_path / "a.mkv", [stairs(4)], late=3600.0)
    waveform, rate = decode_audio(path, duration=3.0)
    assert_stairs(waveform, rate, 0.0, 3.0)


@pytest.mark.parametrize("start", [0.0, 2.0, 14.0])
def test_two_transport_streams_joined(tmp_path, start):
    """The clock of the second begins again."""
    whole = stairs(20)
    for name, samples in (("a", whole[: 10 * RATE]), ("b", whole[10 * RATE :])):
        write(tmp_path / f"{name}.ts", [samples])
    path = tmp_path / "joined.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    part = decode_part(path, start=start, duration=5.0)
    assert_stairs(part.waveform, part.sample_rate, start, 5.0)


class TestTracks:
    @pytest.fixture
    def two(self, tmp_path):
        return write(tmp_path / "two.mkv", [np.zeros(6 * RATE, np.float32), stairs(6)])

    @pytest.mark.parametrize("start", [0.0, 1.0])
    def test_the_first_that_holds_sound(self, two, start):
        part = decode_part(two, start=start, duration=4.0)
        assert (part.stream, part.streams) == (2, 2)
        assert_stairs(part.waveform, part.sample_rate, start, 4.0)

    def test_a_chosen_one(self, two):
        silent = decode_part(two, stream=1)
        assert silent.stream == 1 and float(silent.waveform.abs().max()) < 1e-3
        assert torch.equal(decode_part(two, stream=2).waveform, decode_part(two).waveform)

    def test_all_silent_is_the_first(self, tmp_path):
        path = write(tmp_path / "a.mkv", [np.zeros(RATE, np.float32)] * 2)
        assert decode_part(path, start=0.3).stream == 1

    @pytest.mark.parametrize("stream", [-1, 3])
    def test_one_that_is_not_there(self, two, stream):
        with pytest.raises(AudioError, match=rf"two\.mkv has 2 sound tracks and `stream` is {stream}.*from 0 to 2"):
            decode_part(two, stream=stream)

    def test_the_first_with_sound_stays_the_first(self, tmp_path):
        path = write(tmp_path / "a.mkv", [stairs(4), stairs(8)[4 * RATE :]])
        part = decode_part(path, duration=3.0)
        assert part.stream == 1
        assert_stairs(part.waveform, part.sample_rate, 0.0, 3.0)


def test_a_file_of_damage_alone(tmp_path):
    path = damage(write(tmp_path / "a.m4a", [stairs(2)]), 0.0, packets=10_000)
    try:
        part = decode_part(path)
    except AudioError as error:
        assert "a.m4a" in str(error)
    else:
        assert part.damaged > 10
