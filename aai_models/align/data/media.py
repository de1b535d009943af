"""What of a sound or video file goes into a training set: its sound as bytes, and the frames that fit its label best."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ...audio.decode import decode_audio, open_media, probe
from ...audio.errors import AudioError
from ...errors import CheckpointError
from ..images import open_picture
from ..texts import require_tokenizer
from .sources import SOUND, Clip

SECONDS = 10.24  # of sound that the audio tower encodes
LOOKED_AT, KEPT = 20, 10  # frames of a clip (paper B.1: 20, of which CLIP chooses 10)
SIDE = 256  # pixels of a stored picture's shorter side
SILENT = 1e-4  # peak below which a clip is silence, -80 dBFS


def sound_bytes(clip: Clip) -> tuple[bytes, str]:
    """The clip's sound as a file: its own bytes where it is a short sound file, else cut and written as FLAC.

    Returns the bytes and the suffix without its dot. Raises `AudioError` also for a silent clip.
    """
    suffix = clip.sound.suffix.lower()
    seconds = min(clip.seconds or SECONDS, SECONDS)
    waveform, sample_rate = decode_audio(clip.sound, start=clip.start, duration=seconds)
    if not float(waveform.abs().max()) > SILENT:  # also refuses NaN
        raise AudioError(f"{clip.sound.name} is silent", f"Its peak must be above {SILENT:g}")
    length = probe(clip.sound).duration
    if suffix in SOUND and not clip.start and clip.seconds is None and length and length <= SECONDS + 1:
        return clip.sound.read_bytes(), suffix[1:]
    return _flac(waveform.numpy(), sample_rate), "flac"


def _flac(samples: np.ndarray, sample_rate: int) -> bytes:
    """(C, T) float -> a 16-bit FLAC file; more than two channels become their mean."""
    import av

    samples = samples if samples.shape[0] <= 2 else samples.mean(axis=0, keepdims=True)
    layout = ("mono", "stereo")[samples.shape[0] - 1]
    packed = (np.clip(samples, -1, 1) * 32767).round().astype(np.int16).T.reshape(1, -1)
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate = sample_rate
        resampler = av.AudioResampler(format="s16", layout=layout, rate=sample_rate, frame_size=4096)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return file.getvalue()


def clip_pictures(clip: Clip) -> list[Image.Image]:
    """The clip's own pictures, or `LOOKED_AT` frames of its video, small as they are stored: many clips are read ahead.

    Raises `OSError` or `ValueError` for what is no picture.
    """
    if clip.pictures:
        return [small(open_picture(path, side=SIDE)) for path in clip.pictures]
    return video_frames(clip.sound, clip.start, clip.seconds or SECONDS, LOOKED_AT) if clip.is_video else []


def video_frames(path: Path, start: float, seconds: float, count: int) -> list[Image.Image]:
    """Frames at start + i * total / count, i = 0 ... count - 1; fewer where the video has fewer. Turned upright.

    `total` is the shorter of `seconds` and what the video still lasts. Raises `OSError` for a video without pictures.
    """
    import av

    try:
        with open_media(str(path)) as container:
            if not container.streams.video:
                return []
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            length = (container.duration or 0) / 1_000_000 - start
            total = min(seconds, length) if length > 0 else seconds
            if start:
                container.seek(int(start * 1_000_000))
            frames = []
            for frame in container.decode(stream):
                time = (frame.time or 0.0) - start
                if time + 1e-6 < len(frames) * total / count:
                    continue
                picture = small(frame.to_image())
                turn = getattr(frame, "rotation", 0)
                frames.append(picture.rotate(turn, expand=True) if turn else picture)
                if len(frames) == count:
                    break
            return frames
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(f"{path.name} cannot be read as a video ({type(error).__name__})") from None


def small(picture: Image.Image) -> Image.Image:
    """RGB with a shorter side of at most `SIDE` pixels."""
    picture = picture.convert("RGB")
    scale = SIDE / min(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def picture_bytes(picture: Image.Image) -> bytes:
    """A JPEG of `small`."""
    file = io.BytesIO()
    small(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


class FramePicker:
    """Orders frames by how well CLIP finds that they show a label (paper B.1), from a local folder of a `CLIPModel`."""

    def __init__(self, folder: Path, device: str = "cpu"):
        import transformers

        require_tokenizer(folder)
        self._device = device
        try:
            self._model = (
                transformers.CLIPModel.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
            )
            self._model.to(device)
            self._processor = transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{folder} cannot be read as a CLIPModel ({type(error).__name__}: {str(error)[:200]})",
                "The folder must hold what `save_pretrained` wrote: config, weights, tokenizer and image processor",
                "Copy the whole folder of a CLIP such as ViT-B/32",
            ) from None

    def order(self, pictures: list[Image.Image], label: str) -> list[int]:
        """Indices of the pictures, the best first."""
        import torch

        inputs = self._processor(
            text=[f"a photo of {label}"], images=pictures, return_tensors="pt", padding=True, truncation=True
        ).to(self._device)
        with torch.inference_mode():
            scores = self._model(**inputs).logits_per_text[0]
        return scores.argsort(descending=True, stable=True).tolist()
