"""Reads a part of any sound or video file that PyAV opens, without holding more than that part."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .errors import AudioError
from .resample import resample

CHANNELS = ("all", "mean", "first")
PREROLL = 0.2  # seconds decoded and thrown away before `start`: compressed formats need a run-up


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of its sound."""

    duration: float | None  # seconds; None where the container does not say
    sample_rate: int
    channels: int
    codec: str


def probe(path: str | os.PathLike | BinaryIO) -> AudioInfo:
    """Read a file's headers. Raises `AudioError` as `decode_audio` does."""
    with _opened(path) as container:
        stream = _sound_stream(container, path)
        seconds = container.duration / 1_000_000 if container.duration else None
        codec = stream.codec_context
        return AudioInfo(seconds, codec.sample_rate, codec.channels, codec.name)


def decode_audio(
    path: str | os.PathLike | BinaryIO, start: float = 0.0, duration: float | None = None, channels: str = "all"
) -> tuple[Tensor, int]:
    """Decode from `start`, for `duration` seconds (None: to the end) -> waveform (C, T) float32, sample rate.

    `path`: a file's name, or an open binary file that can be sought.
    The file is sought, not read from its beginning. Integer samples are scaled to [-1, 1); floats stay as they are, also
    where they are not numbers. `channels`: `all`, `mean` of them, or the `first`. A damaged file gives what could be
    decoded. Raises `AudioError` for a file that is missing, empty, no sound, or ends before `start`.
    """
    if channels not in CHANNELS:
        raise ValueError(f"channels is {channels!r}; known are {', '.join(CHANNELS)}")
    if not (math.isfinite(start) and start >= 0 and (duration is None or (math.isfinite(duration) and duration > 0))):
        raise AudioError(
            f"The part asked for begins at {start} s and lasts {duration} s",
            "A part begins at 0 or later and lasts longer than 0 seconds",
        )
    with _opened(path) as container:
        stream = _sound_stream(container, path)
        rate = stream.codec_context.sample_rate
        parts = _decode_part(container, stream, start, duration)
    if not parts:
        length = _length_of(path)
        raise AudioError(
            f"{_name(path)} has no samples"
            if start == 0
            else f"{_name(path)} ends before {start:g} s" + (f" (it lasts {length:.2f} s)" if length else ""),
            "A sound has at least one sample in the part that is loaded",
            "Choose another file" if start == 0 else "Choose an earlier `start`",
        )
    waveform = torch.from_numpy(np.concatenate(parts, axis=1))
    if channels == "mean":
        waveform = waveform.mean(dim=0, keepdim=True)
    elif channels == "first":
        waveform = waveform[:1]
    return waveform, rate


def _name(path) -> str:
    return "The file" if hasattr(path, "read") else Path(path).name


def _opened(path):
    import av

    name, is_open = _name(path), hasattr(path, "read")
    if not is_open and not os.path.isfile(path):
        raise AudioError(f"There is no file {name}", "A sound file must be where it is named", "Choose another file")
    if not is_open and os.path.getsize(path) == 0:
        raise AudioError(f"{name} is empty (0 bytes)", "A sound file holds samples", "Copy or upload it again")
    try:
        if is_open:
            path.seek(0)
        return av.open(path if is_open else os.fspath(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{name} cannot be read as a sound ({getattr(error, 'strerror', None) or type(error).__name__})",
            "Known are wav, flac, ogg, mp3, aiff, opus, m4a, and videos such as mp4 and webm",
            "Check that the file plays elsewhere, or convert it to wav",
        ) from None


def _sound_stream(container, path):
    if not container.streams.audio:
        raise AudioError(
            f"{_name(path)} has no sound in it",
            "A sound or a video with a sound track is needed",
            "Choose another file",
        )
    stream = container.streams.audio[0]
    codec = stream.codec_context  # None for a codec that this FFmpeg does not know
    if codec is None or codec.sample_rate <= 0 or codec.channels <= 0:
        raise AudioError(
            f"{_name(path)} does not say its sample rate, its channels or how it is encoded",
            "A sound file says them in its header",
            "Convert it to wav",
        )
    return stream


def _length_of(path) -> float | None:
    try:
        return probe(path).duration
    except AudioError:
        return None


def _decode_part(container, stream, start: float, duration: float | None) -> list[np.ndarray]:
    """Frames of the part, each (C, n) float32, cut to the sample."""
    import av

    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    first = round(start * rate)
    last = None if duration is None else first + max(1, round(duration * rate))
    origin = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
    if start > PREROLL:
        _seek(container, stream, start - PREROLL + origin)
    parts, taken, position = [], 0, None
    try:
        for frame in container.decode(stream):
            if not frame.samples:
                continue
            if position is None or frame.pts is not None:
                position = round((frame.time - origin) * rate) if frame.pts is not None else position or 0
            samples = _alike(_as_float(frame), frame.sample_rate or rate, channels, rate)
            begin, end = position, position + samples.shape[1]
            position = end
            cut = samples[:, max(0, first - begin) : None if last is None else max(0, last - begin)]
            if last is not None:  # a file may tell one time again and again
                cut = cut[:, : last - first - taken]
            if cut.shape[1]:
                parts.append(cut)
                taken += cut.shape[1]
            if last is not None and (end >= last or taken >= last - first):
                break
    except (av.error.FFmpegError, EOFError):
        pass  # damaged or cut short: what came before is good
    return parts


def _seek(container, stream, seconds: float) -> None:
    import av

    try:
        container.seek(int(seconds / stream.time_base), stream=stream)
    except (av.error.FFmpegError, OverflowError):
        container.seek(0)


def _alike(samples: np.ndarray, rate: int, channels: int, first_rate: int) -> np.ndarray:
    """A frame (C, n) as the file began: recordings that were joined change their rate or channels in the middle."""
    if samples.shape[0] != channels:
        samples = samples.mean(axis=0, keepdims=True).repeat(channels, axis=0)
    return samples if rate == first_rate else resample(torch.from_numpy(samples), rate, first_rate).numpy()


def _as_float(frame) -> np.ndarray:
    """A frame's samples as (C, n) float32; integers are divided by their full scale."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:  # (1, n * C), interleaved
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128.0) / 128.0
    if samples.dtype.kind == "i":
        return (samples / float(1 << (8 * samples.dtype.itemsize - 1))).astype(np.float32)
    return samples.astype(np.float32)
