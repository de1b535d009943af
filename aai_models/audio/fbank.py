"""The encoder's spectrogram: Kaldi's log-mel filter bank, cut or filled to 1024 frames and normalised as CAV-MAE does."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import loudness
from .resample import resample
from .waveform import MONO, as_waveform, to_mono
from .windows import LONG_CLIP, cut_windows, filled

SAMPLE_RATE = 16_000  # Hz
FRAMES, MEL_BINS = 1024, 128
FRAME_LENGTH, FRAME_SHIFT = 0.025, 0.010  # seconds
PRE_EMPHASIS = 0.97
LOWEST = 20.0  # Hz; the highest mel edge is the Nyquist frequency
FLOOR = torch.finfo(torch.float32).eps
FBANK_MEAN, FBANK_STD = -5.081, 4.4849  # of CAV-MAE's training data
CLIP_SAMPLES = 164_080  # at SAMPLE_RATE: exactly FRAMES frames
FRAMES_AT_ONCE = 1024  # small enough for a processor's cache
BAND = 16  # mel channels that are computed together
NORMALISED_LUFS = -23.0

SHORT_CLIP = ("tile", "silence", "pad_reference")
LEVEL = ("as_recorded", "normalised")
WINDOWS = {"hanning": 1.0, "povey": 0.85}  # Kaldi's name -> power of a symmetric Hann window


def kaldi_fbank(waveform: Tensor, sample_rate: int = SAMPLE_RATE, window: str = "hanning") -> Tensor:
    """Log-mel energies (B, frames, 128) of waveforms (B, T), natural logarithm, as Kaldi's `compute-fbank-feats`.

    Options of the CAV-MAE code: 25 ms symmetric Hann windows each 10 ms, no dither, pre-emphasis 0.97, DC removed per
    frame, power spectrum, edges snipped: frames = 1 + (T - 400) // 160 at 16 kHz, none for a shorter clip. The energy is
    floored at float32's epsilon (-15.9424). Some low channels hold no FFT bin at 16 kHz and always stand at the floor.
    `window`: `hanning`, or `povey`, which is Kaldi's own default.
    """
    if waveform.ndim != 2:
        raise ValueError(f"waveform has the shape {tuple(waveform.shape)}; expected is (batch, samples)")
    if window not in WINDOWS:
        raise ValueError(f"window is {window!r}; known are {', '.join(WINDOWS)}")
    length, shift = int(sample_rate * FRAME_LENGTH), int(sample_rate * FRAME_SHIFT)
    if shift < 1:
        raise ValueError(f"sample_rate is {sample_rate} Hz; a frame shift of 10 ms needs at least 100 Hz")
    device, waveform = waveform.device, waveform.detach().to("cpu", torch.float32)
    if waveform.shape[1] < length:
        return torch.zeros(waveform.shape[0], 0, MEL_BINS, device=device)
    bands = _mel_bands(sample_rate, _fft_size(length))
    frames = waveform.unfold(1, length, shift)  # (B, frames, length), a view
    room = _Room.of(min(FRAMES_AT_ONCE, frames.shape[1]), length, WINDOWS[window])
    log_mel = waveform.new_empty(*frames.shape[:2], MEL_BINS)
    for clip, rows in zip(frames, log_mel, strict=True):
        for part, out in zip(clip.split(FRAMES_AT_ONCE), rows.split(FRAMES_AT_ONCE), strict=True):
            _log_mel(part, room, bands, out)
    return log_mel.to(device)


class _Room(NamedTuple):
    """Buffers for this many frames, reused: allocating new memory costs as much as the arithmetic."""

    window: Tensor  # (length,)
    centred: Tensor  # (n, length)
    padded: Tensor  # (n, FFT size), zero behind the frame
    power: Tensor  # (n, bins)

    @classmethod
    def of(cls, count: int, length: int, power: float) -> _Room:
        size = _fft_size(length)
        window = torch.hann_window(length, periodic=False, dtype=torch.float32) ** power
        return cls(window, torch.empty(count, length), torch.zeros(count, size), torch.empty(count, size // 2 + 1))


def _log_mel(frames: Tensor, room: _Room, bands: tuple[_Band, ...], out: Tensor) -> None:
    """(n, length) -> out (n, 128)"""
    count, length = frames.shape
    centred, padded, power = room.centred[:count], room.padded[:count], room.power[:count]
    torch.sub(frames, frames.mean(dim=-1, keepdim=True), out=centred)
    emphasised = padded[:, :length]
    # A product, then a difference, each rounded as Kaldi rounds them: at very low energy the rounding is visible.
    torch.mul(centred[:, :1], PRE_EMPHASIS, out=emphasised[:, :1])
    torch.mul(centred[:, :-1], PRE_EMPHASIS, out=emphasised[:, 1:])
    torch.sub(centred, emphasised, out=emphasised)
    emphasised.mul_(room.window)
    squares = torch.view_as_real(torch.fft.rfft(padded)).square_()
    torch.add(squares[..., 0], squares[..., 1], out=power)
    for band in bands:
        torch.mm(power[:, band.bins], band.weights, out=out[:, band.channels])
    energies = out.clamp_(min=FLOOR).numpy()
    np.log(energies, out=energies)  # PyTorch's takes three times as long


def _fft_size(length: int) -> int:
    return 1 << (length - 1).bit_length()


class _Band(NamedTuple):
    """Neighbouring mel channels and the few bins that they weigh."""

    channels: slice
    bins: slice
    weights: Tensor  # (bins, channels)


@lru_cache(maxsize=8)
def _mel_bands(sample_rate: int, fft_size: int) -> tuple[_Band, ...]:
    """The filters in bands: an eighth of the products of the whole matrix, which is nearly empty."""
    filters = _mel_filters(sample_rate, fft_size)
    bands = []
    for first in range(0, MEL_BINS, BAND):
        part = filters[:, first : first + BAND]
        weighed = part.any(dim=1).nonzero().flatten().tolist() or [0]
        bins = slice(weighed[0], weighed[-1] + 1)
        bands.append(_Band(slice(first, first + BAND), bins, part[bins].contiguous()))
    return tuple(bands)


def _mel_filters(sample_rate: int, fft_size: int) -> Tensor:
    """Triangles on the mel scale (bins, 128), mel(f) = 1127 ln(1 + f / 700); the Nyquist bin weighs nothing."""
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * sample_rate / fft_size
    mel = 1127.0 * torch.log1p(bins / 700.0)
    low, high = (1127.0 * math.log1p(f / 700.0) for f in (LOWEST, sample_rate / 2))
    step = (high - low) / (MEL_BINS + 1)
    left = low + step * torch.arange(MEL_BINS, dtype=torch.float64)
    rising = (mel[:, None] - left) / step  # 0 at the left edge, 1 at the centre, 2 at the right edge
    weights = torch.minimum(rising, 2.0 - rising).clamp(min=0.0)
    weights[-1] = 0.0
    return weights.to(torch.float32)


def encoder_input(
    waveform: Tensor,
    sample_rate: int,
    short_clip: str = "tile",
    long_clip: str = "first",
    channels: str = "mean",
    level: str = "as_recorded",
) -> Tensor:
    """CAVT-MAE's input: (B, C, T) at any rate (Hz) -> normalised log-mel (B, 1024, 128), 10.24 seconds.

    `short_clip` fills a shorter clip: `tile` repeats the sound, `silence` appends digital silence, `pad_reference`
    appends CAV-MAE's constant (+1.1329, which is not silence). `long_clip` chooses from a longer one: the `first` part,
    the `center`, the `loudest` (K-weighted); `mean_of_windows` gives windows that cover the clip, (B * W, 1024, 128) with
    the windows of one clip side by side: average their features with `mean_of_windows`. `channels`: `mean` or `first` (as
    CAV-MAE). `level`: `as_recorded`, or `normalised` to -23 LUFS so that the feature does not depend on loudness.
    Raises `AudioError` for invalid sounds, `ValueError` for unknown policies.
    """
    sound, sample_rate = mono_sound(waveform, sample_rate, short_clip, long_clip, channels, level)
    clip = math.ceil(CLIP_SAMPLES * sample_rate / SAMPLE_RATE)
    cut = cut_windows(sound, sample_rate, clip, long_clip, spare=resampling_reach(sample_rate))
    sound = resample(cut, sample_rate, SAMPLE_RATE)[:, :CLIP_SAMPLES]  # (B * W, T')
    sound = sound - sound.mean(dim=-1, keepdim=True)
    fbank = kaldi_fbank(filled(sound, CLIP_SAMPLES, short_clip))
    # Zeros in the logarithm, before the normalisation: the constant that CAV-MAE was trained with.
    fbank = F.pad(fbank, (0, 0, 0, FRAMES - fbank.shape[1]))
    return (fbank - FBANK_MEAN) / FBANK_STD


def mono_sound(
    waveform: Tensor, sample_rate: int, short_clip: str, long_clip: str, channels: str, level: str
) -> tuple[Tensor, int]:
    """Check a sound (B, C, T) and every policy -> mono (B, T) at the asked-for level, sample rate in Hz."""
    for name, value, known in (
        ("short_clip", short_clip, SHORT_CLIP),
        ("long_clip", long_clip, LONG_CLIP),
        ("channels", channels, MONO),
        ("level", level, LEVEL),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; known are {', '.join(known)}")
    waveform, sample_rate = as_waveform({"waveform": waveform, "sample_rate": sample_rate})
    if level == "normalised":
        waveform = _normalise_level(waveform, sample_rate)
    return to_mono(waveform, channels), sample_rate


def resampling_reach(sample_rate: int) -> int:
    """Samples past a window that the resampler to 16 kHz looks at."""
    return 8 * math.ceil(max(1.0, sample_rate / SAMPLE_RATE))


def mean_of_windows(features: Tensor, clips: int) -> Tensor:
    """Unit vectors (clips * W, D) of each clip's windows -> unit vectors (clips, D)."""
    if features.shape[0] % clips:
        raise ValueError(f"{features.shape[0]} features cannot belong to {clips} clips")
    return F.normalize(features.reshape(clips, -1, features.shape[-1]).mean(dim=1), dim=-1)


def _normalise_level(waveform: Tensor, sample_rate: int) -> Tensor:
    lufs = loudness.integrated(waveform, sample_rate)
    gain = torch.where(torch.isfinite(lufs), 10 ** ((NORMALISED_LUFS - lufs) / 20), torch.ones_like(lufs))
    return waveform * gain.to(waveform)[:, None, None]
