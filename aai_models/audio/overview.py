"""A picture of a sound: its waveform, its loudness over time, and its mel spectrogram."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..draw import GRID, GROUND, INK, font, heat
from .fbank import FLOOR, SAMPLE_RATE, kaldi_fbank
from .loudness import integrated, momentary
from .resample import resample
from .waveform import as_waveform, to_mono

LEFT, RIGHT, TOP, GAP, BOTTOM = 76, 16, 34, 26, 30  # margins, in pixels
WAVE, LOUDNESS = (59, 110, 165), (170, 60, 50)
QUIETEST = -60.0  # LUFS at the foot of the loudness panel
LONGEST = 600.0  # seconds that are drawn
MEL_LABELS = (100, 500, 1000, 2000, 4000, 7500)  # Hz


def draw_overview(waveform: Tensor, sample_rate: int, width: int = 1024, height: int = 720) -> list[Image.Image]:
    """A picture of each sound of (B, C, T): waveform, momentary loudness (LUFS) and mel spectrogram over one time axis.

    Sounds longer than ten minutes are drawn to that length. Raises `AudioError` for invalid sounds.
    """
    waveform, sample_rate = as_waveform({"waveform": waveform, "sample_rate": sample_rate})
    waveform = waveform[..., : int(LONGEST * sample_rate)]
    return [_draw_one(sound, sample_rate, width, height) for sound in waveform]


def _draw_one(sound: Tensor, sample_rate: int, width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(picture)
    seconds = sound.shape[-1] / sample_rate
    room = height - TOP - BOTTOM - 2 * GAP
    heights = [round(0.28 * room), round(0.28 * room), room - 2 * round(0.28 * room)]
    panels, top = [], TOP
    for panel in heights:
        panels.append((LEFT, top, width - RIGHT, top + panel))
        top += panel + GAP
    lufs = float(integrated(sound[None], sample_rate)[0])
    loud = f"{lufs:.1f} LUFS" if math.isfinite(lufs) else "silent"
    title = f"{seconds:.2f} s, {sample_rate} Hz, {sound.shape[0]} channel{'s' * (sound.shape[0] > 1)}, {loud}"
    draw.text((LEFT, 8), title, fill=INK, font=font(16))
    _time_axis(draw, panels, seconds)
    _waveform(draw, panels[0], sound.numpy())
    _loudness(draw, panels[1], momentary(sound[None], sample_rate)[0].numpy(), seconds)
    _spectrogram(picture, draw, panels[2], resample(to_mono(sound), sample_rate, SAMPLE_RATE))
    return picture


def _waveform(draw, box, sound: np.ndarray) -> None:
    """Least and greatest sample of each column over all channels (C, T)."""
    left, top, right, bottom = box
    peak = max(float(np.abs(sound).max()), 1e-6)
    columns = right - left
    edges = np.linspace(0, sound.shape[1], columns + 1).astype(int)
    middle, half = (top + bottom) / 2, (bottom - top) / 2 - 2
    draw.line([(left, middle), (right, middle)], fill=GRID)
    for x in range(columns):
        part = sound[:, edges[x] : max(edges[x + 1], edges[x] + 1)]
        high, low = middle - half * part.max() / peak, middle - half * part.min() / peak
        draw.line([(left + x, high), (left + x, low)], fill=WAVE)
    decibels = 20 * math.log10(peak)
    _label(draw, left, top, f"{decibels:+.0f} dBFS")
    draw.rectangle(box, outline=GRID)


def _loudness(draw, box, curve: np.ndarray, seconds: float) -> None:
    """Momentary loudness (frames,), each at the middle of its 400 ms."""
    left, top, right, bottom = box
    highest = max(0.0, float(curve.max(initial=-math.inf)))
    span = highest - QUIETEST

    def y(level: float) -> float:
        return bottom - (max(level, QUIETEST) - QUIETEST) / span * (bottom - top)

    for level in range(int(QUIETEST), int(highest) + 1, 20):
        draw.line([(left, y(level)), (right, y(level))], fill=GRID)
        _label(draw, left, y(level) - 8, f"{level} LUFS")
    middles = np.minimum(np.arange(len(curve)) * 0.1 + 0.2, seconds / 2 if len(curve) == 1 else seconds)
    points = [(left + t / seconds * (right - left), y(level)) for t, level in zip(middles, curve, strict=True)]
    if len(points) > 1:
        draw.line(points, fill=LOUDNESS, width=2)
    else:
        draw.line([(left, points[0][1]), (right, points[0][1])], fill=LOUDNESS, width=2)
    draw.rectangle(box, outline=GRID)


def _spectrogram(picture, draw, box, sound: Tensor) -> None:
    """Log-mel energies of the mono sound (T,) at 16 kHz; 80 dB from dark to bright."""
    left, top, right, bottom = box
    features = kaldi_fbank(sound[None])[0]  # (frames, 128)
    if not features.shape[0]:
        features = torch.full((1, 128), math.log(FLOOR))
    low = float(features.max()) - 8.0 * math.log(10.0)  # 80 dB in natural logarithms of power
    shades = ((features - low) / (8.0 * math.log(10.0))).clamp(0, 1).T.flip(0).numpy()
    image = Image.fromarray(heat(shades)).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    picture.paste(image, (left, top))
    lowest, highest = (1127.0 * math.log1p(f / 700.0) for f in (20.0, SAMPLE_RATE / 2))
    for frequency in MEL_LABELS:
        share = (1127.0 * math.log1p(frequency / 700.0) - lowest) / (highest - lowest)
        _label(draw, left, bottom - share * (bottom - top) - 8, f"{frequency} Hz")
    draw.rectangle(box, outline=GRID)


def _time_axis(draw, panels, seconds: float) -> None:
    left, _, right, bottom = panels[-1]
    step = _round_step(seconds / 8)
    letters = font(13)
    for index in range(int(seconds / step) + 1):
        x = left + index * step / seconds * (right - left)
        for _, top, _, foot in panels[:2]:
            draw.line([(x, top), (x, foot)], fill=GRID)
        draw.line([(x, bottom), (x, bottom + 5)], fill=INK)
        draw.text((x, bottom + 7), f"{index * step:.10g} s", fill=INK, font=letters, anchor="ma")


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)


def _label(draw, left: float, y: float, text: str) -> None:
    draw.text((left - 6, y), text, fill=INK, font=font(13), anchor="ra")
