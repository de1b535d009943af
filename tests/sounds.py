"""Sound files and signals that tests make for themselves."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path

import numpy as np
import torch

# Suffix -> (container, codec): what an artist may have on disk.
FORMATS = {
    "wav": ("wav", "pcm_s16le"),
    "wav24": ("wav", "pcm_s24le"),
    "flac": ("flac", "flac"),
    "opus": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "aiff": ("aiff", "pcm_s16be"),
    "m4a": ("mp4", "aac"),
    "webm": ("webm", "libopus"),
}


def tone(seconds: float = 1.0, sample_rate: int = 48000, frequency: float = 440.0, amplitude: float = 0.5):
    """A sine (1, T) float32."""
    time = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()[None]


def noise(*shape: int, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    """White noise of the given shape and root mean square."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def write_encoded(
    path: Path, waveform: torch.Tensor, sample_rate: int, kind: str, picture: bool = False, options: dict | None = None
) -> Path:
    """Encode (C, T) with PyAV in one of `FORMATS`; `picture` adds a video track, `options` are the container's."""
    import av

    container_format, codec = FORMATS[kind]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[waveform.shape[0]]
    with av.open(str(path), "w", format=container_format, options=options) as container:
        if picture:
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform.numpy()), format="fltp", layout=layout)
        frame.sample_rate = sample_rate
        if picture:
            for index in range(10):
                image = np.full((48, 64, 3), 20 * index, dtype=np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(video.encode(None))
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout=layout, rate=sample_rate, frame_size=stream.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def write_wav(path: Path, samples: np.ndarray, sample_rate: int = 16000) -> None:
    """16-bit wav of samples (T,) or (T, channels) in [-1, 1]."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def write_float_wav(path: Path, samples: np.ndarray, sample_rate: int = 16000) -> None:
    """32-bit float wav of samples (T,), whatever they are."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, sample_rate, 4 * sample_rate, 4, 32)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE")
    path.write_bytes(head + form + struct.pack("<4sI", b"data", len(data)) + data)


def write_long_wav(path: Path, seconds: int, sample_rate: int, sound_at: int, sound: np.ndarray) -> None:
    """A sparse mono wav: silence with `sound` (T,) at second `sound_at`; takes no disk for the silence."""
    size = 2 * sample_rate * seconds
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    with open(path, "wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size))
        file.truncate(44 + size)
        file.seek(44 + 2 * sample_rate * sound_at)
        file.write((sound * 32767).astype("<i2").tobytes())
