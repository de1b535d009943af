"""ImageBind's input: a sound as mel pictures of two seconds, three of them as published (Girdhar et al., CVPR 2023)."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.errors import AudioError
from ..audio.fbank import SAMPLE_RATE, kaldi_fbank, mono_sound, resampling_reach
from ..audio.heard import SECONDS
from ..audio.resample import resample
from ..audio.waveform import SILENCE_PEAK
from ..audio.windows import cut_windows, filled

CLIP = 2 * SAMPLE_RATE  # samples that one picture shows
CLIPS = 3  # of a sound
FRAMES = 204  # of a picture; two seconds give 198, the rest is filled
MEAN, STD = -4.268, 9.138  # of ImageBind's training data


def mel_pictures(
    waveform: Tensor,
    sample_rate: int,
    short_clip: str = "tile",
    long_clip: str = "first",
    channels: str = "mean",
    level: str = "as_recorded",
) -> Tensor:
    """Sounds (B, C, T) at any rate (Hz) -> normalised log-mel pictures (B, W, 1, 128, 204), W of each sound.

    `long_clip` chooses 10.24 seconds of a longer sound as for every encoder; of those three clips of 2 s are used, the
    first at the start, the last at the end, one in the middle, as published. `mean_of_windows` takes as many clips as
    cover the whole sound. A sound of less than 2 s is one clip; `short_clip` fills it: `tile` and `silence` up to 2 s,
    `pad_reference` with the constant that the model was trained with. `channels`, `level`: as `encoder_input`.
    Raises `AudioError` for invalid sounds and for those that are silent in every clip, `ValueError` for unknown policies.
    """
    sound, sample_rate = mono_sound(waveform, sample_rate, short_clip, long_clip, channels, level)
    if long_clip != "mean_of_windows":
        part = math.ceil(SECONDS * sample_rate)
        sound = cut_windows(sound, sample_rate, part, long_clip, spare=resampling_reach(sample_rate))
        sound = resample(sound, sample_rate, SAMPLE_RATE)[:, : round(SECONDS * SAMPLE_RATE)]
    else:
        sound = resample(sound, sample_rate, SAMPLE_RATE)
    sound = filled(sound, CLIP, short_clip)
    count = math.ceil(sound.shape[1] / CLIP) if long_clip == "mean_of_windows" else CLIPS
    clips = [sound[:, start:end] for start, end in clip_table(sound.shape[1], count)]
    _require_sound_in(clips)
    pictures = torch.stack([_picture(clip) for clip in clips], dim=1)  # (B, W, 204, 128)
    return pictures.transpose(2, 3).unsqueeze(2)


def clip_table(samples: int, count: int = CLIPS) -> list[tuple[int, int]]:
    """(start, end) of the clips of a sound at 16 kHz: evenly spaced, the first at its start, the last at its end.

    At least three, but one alone, the whole sound, where that is no longer than a clip: the others would be the same.
    Exact fractions of the length in seconds, as ImageBind computes them: 40001 samples give a start of 8000, not 8001.
    """
    if samples <= CLIP:
        return [(0, samples)]
    count = max(CLIPS, count)
    spare = Fraction(samples / SAMPLE_RATE - CLIP / SAMPLE_RATE)  # seconds
    starts = [spare * index / (count - 1) for index in range(count)]
    ends = [start + Fraction(CLIP, SAMPLE_RATE) for start in starts]
    return [
        (int(start * SAMPLE_RATE), min(int(end * SAMPLE_RATE), samples))
        for start, end in zip(starts, ends, strict=True)
    ]


def _picture(clip: Tensor) -> Tensor:
    """(B, T) at 16 kHz -> normalised log-mel energies (B, 204, 128)."""
    fbank = kaldi_fbank(clip - clip.mean(dim=-1, keepdim=True))[:, :FRAMES]
    # Zeros in the logarithm, before the normalisation: the constant that the model was trained with.
    fbank = F.pad(fbank, (0, 0, 0, FRAMES - fbank.shape[1]))
    return (fbank - MEAN) / STD


def _require_sound_in(clips: list[Tensor]) -> None:
    """Raise `AudioError` for a sound of the batch that is silent in all of its clips [(B, T)]."""
    peaks = torch.stack([(clip - clip.mean(dim=-1, keepdim=True)).abs().amax(dim=-1) for clip in clips]).amax(dim=0)
    silent = (~(peaks >= SILENCE_PEAK)).nonzero().flatten().tolist()
    if silent:
        name = "The sound" if len(peaks) == 1 else f"Sound {silent[0] + 1} of {len(peaks)}"
        raise AudioError(
            f"{name} is silent in the {len(clips)} x 2 s that ImageBind uses",
            "It hears the start, the middle and the end of a sound",
            "Set `long_clip` to mean_of_windows to use all of it, or choose another part of the recording",
        )
