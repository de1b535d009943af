"""Reads a part of any sound or video file that PyAV opens, without holding more than that part."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from .errors import AudioError
from .placed import PlacedSamples
from .waveform import SILENCE_PEAK, to_mono

STREAMED = 10.0  # seconds of a recording that are held where all of it is read
CHANNELS = ("all", "mean", "first")
# Seconds decoded and thrown away before `start`: compressed formats need a run-up, and some seek too late.
RUN_UPS = (0.2, 3.0)
REFUSALS = 100  # of the container in a row, after which the rest of a file counts as lost
# Containers whose clock begins at 0: a track that begins later was recorded later. Other clocks begin anywhere.
FROM_ZERO = ("matroska", "mov")
LATEST_TRACK = 60.0  # seconds; a file of one track that begins later yet was cut out of a longer one
JOINABLE = ("mpeg", "mpegts")  # containers that stay readable when one is copied behind another

# What people name sounds, and videos with a sound; what PyAV reads.
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".aifc", ".opus", ".m4a", ".aac", ".wma", ".ac3"),
    *(".amr", ".au", ".snd", ".caf", ".mka", ".wv", ".ape", ".tta", ".mp2", ".eac3", ".dts", ".spx", ".w64", ".voc"),
    *(".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi", ".3gp", ".3g2", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".vob", ".ogv", ".flv", ".wmv", ".asf"),
)


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of its sound."""

    duration: float | None  # seconds; None where the container does not say
    sample_rate: int
    channels: int
    codec: str


@dataclass(frozen=True)
class Part:
    """A part of a file's sound, and what had to be done to get it."""

    waveform: Tensor  # (C, T) float32
    sample_rate: int  # Hz
    damaged: int  # packets that could not be decoded and were skipped
    missing: float  # seconds of silence that stand for what was damaged or lost
    stream: int  # which of the file's sound tracks this is, from 1
    streams: int  # how many it has

    def notes(self) -> list[str]:
        """What a person should know of how it was read; nothing for a sound file that is whole."""
        notes = []
        if self.damaged or self.missing:
            notes.append(
                f"The file is damaged: {self.damaged} packets could not be decoded, "
                f"{self.missing:.2f} s were replaced by silence."
            )
        if self.streams > 1:
            notes.append(f"This is sound track {self.stream} of {self.streams}.")
        return notes


def probe(path: str | os.PathLike | BinaryIO) -> AudioInfo:
    """Read a file's headers. Raises `AudioError` as `decode_audio` does."""
    with _opened(path) as container:
        stream = container.streams.audio[_sound_tracks(container, path, 0)[0]]
        seconds = container.duration / 1_000_000 if container.duration else None
        codec = stream.codec_context
        return AudioInfo(seconds, codec.sample_rate, codec.channels, codec.name)


def decode_audio(
    path: str | os.PathLike | BinaryIO,
    start: float = 0.0,
    duration: float | None = None,
    channels: str = "all",
    stream: int = 0,
) -> tuple[Tensor, int]:
    """Decode from `start`, for `duration` seconds (None: to the end) -> waveform (C, T) float32, sample rate.

    All as `decode_part`, which also tells what was skipped.
    """
    part = decode_part(path, start, duration, channels, stream)
    return part.waveform, part.sample_rate


def decode_part(
    path: str | os.PathLike | BinaryIO,
    start: float = 0.0,
    duration: float | None = None,
    channels: str = "all",
    stream: int = 0,
) -> Part:
    """Decode from `start`, for `duration` seconds (None: to the end).

    `path`: a file's name, or an open binary file that can be sought.
    The file is sought, not read from its beginning. Times are the container's: a track that begins later than its picture
    has silence before it, and damaged packets are skipped and leave silence. Integer samples are scaled to [-1, 1); floats
    stay as they are, also where they are not numbers. `channels`: `all`, `mean` of them (`to_mono`), or the `first`.
    `stream`: a sound track, from 1; 0 is the first whose part is not silent, or the first where all are. A file that is
    cut short gives what is there. Raises `AudioError` for a file that is missing, empty, no sound, or ends before `start`.
    """
    if channels not in CHANNELS:
        raise ValueError(f"channels is {channels!r}; known are {', '.join(CHANNELS)}")
    if not (math.isfinite(start) and start >= 0 and (duration is None or (math.isfinite(duration) and duration > 0))):
        raise AudioError(
            f"The part asked for begins at {start} s and lasts {duration} s",
            "A part begins at 0 or later and lasts longer than 0 seconds",
        )
    silent: dict[int, Part] = {}  # by place of the track
    for container, track, run_up in _ways_to_read(path, start, stream):
        part = None if track.index in silent else _read(container, track, start, duration, run_up)
        if part is None:
            continue
        if stream or part.streams == 1 or float(part.waveform.abs().max()) >= SILENCE_PEAK:
            return _with_channels(part, channels)
        silent[track.index] = part
    if not silent:
        raise _nothing_there(path, start)
    return _with_channels(next(iter(silent.values())), channels)


def stream_track(path: str | os.PathLike, place: int) -> Iterator[tuple[np.ndarray, int]]:
    """(samples (C, n) float32, Hz) of a sound track from its beginning to its end, about `STREAMED` seconds at a time.

    `place`: one of `playable_tracks`. Holes become silence, as in `decode_part`. Raises `AudioError` as it does.
    """
    with _opened(path) as container:
        track = container.streams.audio[place]
        rate, origin = track.codec_context.sample_rate, _origin(container, track)
        joinable = any(n in JOINABLE for n in container.format.name.split(","))
        placed = PlacedSamples(rate, track.codec_context.channels, 0, None, joinable)
        before = held = 0
        for frame in _frames(container, track):
            if frame is None:
                before += 1
                continue
            placed.add(frame, None if frame.pts is None else frame.time - origin, before > 0, False)
            before, held = 0, held + frame.samples
            if held >= STREAMED * rate:
                yield placed.take(), rate
                held = 0
        yield placed.take(), rate


def playable_tracks(path: str | os.PathLike, stream: int = 0) -> list[int]:
    """Places of the sound tracks that can be decoded; the one that `stream` (from 1) names, all where it is 0."""
    with _opened(path) as container:
        return _sound_tracks(container, path, stream)


def _with_channels(part: Part, channels: str) -> Part:
    return part if channels == "all" else replace(part, waveform=to_mono(part.waveform, channels)[None])


def _name(path) -> str:
    return "The file" if hasattr(path, "read") else Path(path).name


def open_media(file):
    """A container of PyAV for reading, also of a file whose tags are no UTF-8. `file`: a name, or an object with `read`.

    Raises what `av.open` does.
    """
    import av

    # From version 19 on it reads tags of any encoding, and takes no such argument.
    known = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    return partial(av.open, **known)(file)


def _opened(path):
    import av

    name, is_open = _name(path), hasattr(path, "read")
    if not is_open and not os.path.isfile(path):
        raise AudioError(f"There is no file {name}", "The sound file must exist", "Choose another file")
    if not is_open and os.path.getsize(path) == 0:
        raise AudioError(f"{name} is empty (0 bytes)", "A sound file must hold samples", "Copy or upload it again")
    try:
        if is_open:
            path.seek(0)
        return open_media(path if is_open else os.fspath(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{name} cannot be read as a sound ({getattr(error, 'strerror', None) or type(error).__name__})",
            "Known are wav, flac, ogg, mp3, aiff, opus, m4a, and videos such as mp4 and webm",
            "Check that the file plays elsewhere, or convert it to wav",
        ) from None


def _ways_to_read(path, start: float, stream: int) -> Iterator[tuple]:
    """(container, sound track, run-up): by seeking, then from the beginning (None), each track in turn.

    The container is opened anew for each, and closed after it.
    """
    with _opened(path) as container:
        places = _sound_tracks(container, path, stream)
        run_ups = [run_up for run_up in RUN_UPS if start > run_up]
        ways = [(place, run_up) for place in places for run_up in (*run_ups, None)]
        yield container, container.streams.audio[ways[0][0]], ways[0][1]
    for place, run_up in ways[1:]:
        with _opened(path) as container:
            yield container, container.streams.audio[place], run_up


def _sound_tracks(container, path, stream: int) -> list[int]:
    """Places of the sound tracks that are to be tried; all that can be decoded where `stream` is 0."""
    tracks = list(container.streams.audio)
    if not tracks:
        raise AudioError(
            f"{_name(path)} has no sound in it",
            "A sound or a video with a sound track is needed",
            "Choose another file",
        )
    if not 0 <= stream <= len(tracks):
        raise AudioError(
            f"{_name(path)} has {len(tracks)} sound track{'s' * (len(tracks) > 1)} and `stream` is {stream}",
            "Tracks are counted from 1, and 0 takes the first that holds sound",
            f"Choose a `stream` from 0 to {len(tracks)}",
        )
    # codec_context is None for a codec that this FFmpeg does not know
    known = [
        place
        for place, track in enumerate(tracks)
        if track.codec_context is not None and track.codec_context.sample_rate > 0 and track.codec_context.channels > 0
    ]
    chosen = [place for place in known if stream in (0, place + 1)]
    if not chosen:
        raise AudioError(
            f"{_name(path)} does not say its sample rate, its channels or its codec",
            "A sound file says them in its header",
            "Choose another `stream`, or convert the file to wav" if known else "Convert it to wav",
        )
    return chosen


def _nothing_there(path, start: float) -> AudioError:
    try:
        length = probe(path).duration
    except AudioError:
        length = None
    if start == 0:
        return AudioError(
            f"{_name(path)} has no samples that can be decoded",
            "A sound has at least one sample in the part that is loaded",
            "Choose another file",
        )
    return AudioError(
        f"{_name(path)} ends before {start:g} s" + (f" (it lasts {length:.2f} s)" if length else ""),
        "A sound has at least one sample in the part that is loaded",
        "Choose an earlier `start`",
    )


def _read(container, track, start: float, duration: float | None, run_up: float | None) -> Part | None:
    """The part of a sound track, sought `run_up` seconds before it or read from the file's beginning (None).

    None where it holds no sample, or where seeking came too late.
    """
    sought = run_up is not None
    rate, channels = track.codec_context.sample_rate, track.codec_context.channels
    first = round(start * rate)
    last = None if duration is None else first + max(1, round(duration * rate))
    origin = _origin(container, track)
    if sought:
        _seek(container, track, start - run_up + origin)
    placed = PlacedSamples(rate, channels, first, last, any(n in JOINABLE for n in container.format.name.split(",")))
    damaged = before = 0  # all packets that were skipped, and those since the last frame
    for frame in _frames(container, track):
        if frame is None:
            before += placed.begun or not sought  # packets are cut where a file was sought: no damage
            continue
        time = None if frame.pts is None else frame.time - origin
        if not placed.add(frame, time, before > 0, sought):
            return None
        damaged, before = damaged + before, 0
        if placed.complete:
            break
    waveform = placed.waveform()
    if waveform is None:
        return None
    place = [other.index for other in container.streams.audio].index(track.index)
    return Part(waveform, rate, damaged + before, placed.missing / rate, place + 1, len(container.streams.audio))


def _frames(container, track) -> Iterator:
    """Decoded frames with samples; None for each packet that cannot be decoded. Ends where nothing more can be read."""
    import av

    refusals = 0
    while refusals < REFUSALS:
        try:
            for packet in container.demux(track):
                refusals = 0
                try:
                    frames = packet.decode()
                except EOFError:
                    continue  # the decoder was told twice that the file ends
                except av.error.FFmpegError:
                    yield None
                    continue
                yield from (frame for frame in frames if frame.samples)
            return
        except av.error.InvalidDataError:
            refusals += 1
        except (av.error.FFmpegError, EOFError):
            return  # cut short: what came before is good


def _origin(container, track) -> float:
    """The container's time (seconds) that is called 0."""
    began = container.start_time / 1_000_000 if container.start_time is not None else None
    if began is None:
        began = float(track.start_time * track.time_base) if track.start_time else 0.0
    from_zero = any(name in FROM_ZERO for name in container.format.name.split(","))
    return min(began, 0.0) if from_zero and began <= LATEST_TRACK else began


def _seek(container, track, seconds: float) -> None:
    import av

    try:
        container.seek(int(seconds / track.time_base), stream=track)
    except (av.error.FFmpegError, OverflowError):
        container.seek(0)
