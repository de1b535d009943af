"""How each thing sounds: a synthesiser for each, with random pitch, tempo, timbre, room, noise and level.

A recipe takes a `Voice` and returns a waveform (n,) of any level; loudness 0..1 acts on the density of rain, fire and
the like, and on the level of everything.
"""

from __future__ import annotations

import math

import numpy as np

from ...aai_models.errors import PocketError
from .names import THINGS

RATE = 16000  # Hz
QUIET, LOUD = -38.0, -10.0  # dB of full scale (RMS) at loudness 0 and 1


class Voice:
    """Random means of one clip: a time axis and building blocks that share its pitch and tempo."""

    def __init__(self, seconds: float, loudness: float, rng: np.random.Generator):
        self.rng, self.loudness, self.n = rng, loudness, round(seconds * RATE)
        self.seconds, self.t = seconds, np.arange(self.n) / RATE
        self.pitch = 2 ** rng.uniform(-0.4, 0.4)  # factor on frequencies
        self.tempo = 2 ** rng.uniform(-0.4, 0.4)  # factor on rates

    def tone(self, hertz, harmonics=(1.0,), wobble: float = 0.0) -> np.ndarray:
        """A sum of harmonics; `hertz` a number or a curve (n,); vibrato of relative depth `wobble`."""
        curve = np.broadcast_to(np.asarray(hertz, float) * self.pitch, self.t.shape)
        if wobble:
            curve = curve * (1 + wobble * np.sin(2 * np.pi * 5.5 * self.t + self.rng.uniform(0, 6)))
        phase = 2 * np.pi * np.cumsum(curve) / RATE
        wave = np.zeros(self.n)
        for k, weight in enumerate(harmonics, start=1):
            wave += weight * np.where(curve * k < 7600, np.sin(k * phase), 0.0)
        return wave

    def noise(self, low: float = 20, high: float = 7900, tilt: float = 0.0) -> np.ndarray:
        """Gaussian noise between two frequencies; `tilt` -1 is pink, -2 brown."""
        spectrum = np.fft.rfft(self.rng.standard_normal(self.n))
        hertz = np.fft.rfftfreq(self.n, 1 / RATE)
        spectrum *= (hertz >= low) & (hertz <= high)
        spectrum *= np.maximum(hertz, 20.0) ** (tilt / 2)
        wave = np.fft.irfft(spectrum, self.n)
        return wave / (wave.std() + 1e-9)

    def onsets(self, per_second: float, jitter: float = 0.1, regular: bool = True) -> np.ndarray:
        """Times of events in seconds."""
        rate = per_second * self.tempo
        if not regular:
            return np.sort(self.rng.uniform(0, self.seconds, max(1, round(rate * self.seconds))))
        first = min(self.rng.uniform(0, 0.8) / rate, 0.3 * self.seconds)  # even a short clip holds one
        times = np.arange(first, self.seconds, 1 / rate)
        return np.clip(times + jitter / rate * self.rng.standard_normal(len(times)), 0, self.seconds - 0.02)

    def bursts(self, times, rise: float, fall: float, weights=None) -> np.ndarray:
        """An envelope that rises and falls exponentially after each time."""
        impulse = np.zeros(self.n)
        at = np.minimum((np.asarray(times) * RATE).astype(int), self.n - 1)
        np.add.at(impulse, at, 1.0 if weights is None else weights)
        length = min(self.n, int(6 * fall * RATE) + 8)
        s = np.arange(length) / RATE
        return convolve(impulse, (1 - np.exp(-s / max(rise, 1e-4))) * np.exp(-s / fall))

    def since(self, times) -> np.ndarray:
        """Seconds since the last event (n,), large before the first."""
        place = np.searchsorted(times, self.t, side="right") - 1
        return np.where(place >= 0, self.t - np.asarray(times)[np.maximum(place, 0)], 9.0)


def convolve(wave: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Causal convolution of the same length."""
    size = 1 << (len(wave) + len(kernel)).bit_length()
    return np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(kernel, size), size)[: len(wave)]


def dog(v: Voice):
    times = v.onsets(1.6, 0.12)
    s = v.since(times)
    bark = v.tone(520 - 900 * np.minimum(s, 0.25) + 200 * np.exp(-s / 0.03), (1, 0.8, 0.7, 0.5, 0.35, 0.2))
    return (bark + 0.5 * v.noise(400, 3500)) * v.bursts(times, 0.012, 0.07)


def rain(v: Voice):
    drops = v.bursts(v.onsets(25 + 260 * v.loudness, regular=False), 0.0004, 0.006)
    return (0.35 + v.loudness) * v.noise(900, 7900, -0.4) * 0.25 + drops * v.noise(1500, 7000) * 0.9


def waves(v: Voice):
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 0.28 * v.tempo * v.t + v.rng.uniform(0, 6))
    return v.noise(40, 5000, -1.1) * (0.15 + swell**2) + 0.4 * v.noise(2000, 7500) * swell**3 * (0.3 + v.loudness)


def baby(v: Voice):
    times = v.onsets(0.85, 0.08)
    s = v.since(times)
    cry = v.tone(430 + 170 * np.sin(np.pi * np.clip(s / 0.8, 0, 1)), (1, 0.9, 0.8, 0.7, 0.5, 0.4, 0.3), 0.03)
    return cry * np.clip(s / 0.08, 0, 1) * np.clip((0.85 - s) / 0.12, 0, 1) + 0.03 * v.noise(1000, 6000)


def clock(v: Voice):
    times = v.onsets(2.0, 0.004)
    weights = np.where(np.arange(len(times)) % 2 == 0, 1.0, 0.6)
    click = v.bursts(times, 0.0002, 0.006, weights)
    return click * (v.noise(1800, 7000) + v.tone(3100)) + 0.01 * v.noise()


def sneeze(v: Voice):
    start = v.rng.uniform(0.1, 0.3) * v.seconds
    times = np.arange(start, v.seconds, 1.5 / v.tempo)
    inhale = v.bursts(times - 0.3 if start > 0.3 else times, 0.12, 0.12) * v.noise(900, 3500) * 0.12
    s = v.since(times)
    voice = v.tone(480 - 500 * np.clip(s, 0, 0.4), (1, 0.7, 0.5, 0.3)) * v.bursts(times, 0.01, 0.06)
    return inhale + voice + 1.4 * v.noise(1500, 7500) * v.bursts(times + 0.05, 0.01, 0.11)


def helicopter(v: Voice):
    times = v.onsets(11.0, 0.01)
    return (
        v.bursts(times, 0.006, 0.025) * v.noise(30, 900, -0.8) * 2 + 0.3 * v.noise(100, 5000, -0.6) + 0.1 * v.tone(330)
    )


def chainsaw(v: Voice):
    rev = 90 + 45 * np.clip(np.sin(2 * np.pi * 0.5 * v.tempo * v.t + v.rng.uniform(0, 6)), -0.3, 1)
    return v.tone(rev, 1 / np.arange(1, 30) ** 0.35, 0.01) * 0.4 + 0.8 * v.noise(600, 6500, -0.3)


def rooster(v: Voice):
    times = v.onsets(0.42, 0.05)
    s = v.since(times)
    curve = np.interp(s, (0, 0.15, 0.3, 0.42, 0.6, 1.0, 1.5), (560, 820, 620, 900, 980, 900, 520))
    level = np.interp(
        s, (0, 0.04, 0.16, 0.2, 0.26, 0.3, 0.36, 0.45, 1.2, 1.5, 1.6), (0, 1, 1, 0.1, 0.1, 1, 0.2, 1, 0.9, 0.1, 0)
    )
    return v.tone(curve, (1, 0.9, 0.8, 0.6, 0.4, 0.25), 0.015) * level + 0.02 * v.noise(800, 6000)


def fire(v: Voice):
    crackle = v.bursts(v.onsets(8 + 45 * v.loudness, regular=False), 0.0002, 0.004, None)
    return crackle * v.noise(1000, 7800) * 2.5 + 0.22 * v.noise(40, 900, -1.0) * (0.5 + v.loudness)


def bell(v: Voice):
    times = v.onsets(0.9, 0.02)
    parts = sum(
        w * v.tone(620 * r) * v.bursts(times, 0.001, d)
        for r, w, d in (
            (0.5, 0.6, 1.1),
            (1, 1, 0.8),
            (1.19, 0.7, 0.6),
            (1.5, 0.5, 0.5),
            (2, 0.7, 0.4),
            (2.74, 0.4, 0.25),
        )
    )
    return parts


def drum(v: Voice):
    times = v.onsets(3.2, 0.03)
    s = v.since(times)
    weights = np.where(np.arange(len(times)) % 4 == 0, 1.0, 0.55)
    return v.tone(90 + 120 * np.exp(-s / 0.03)) * v.bursts(times, 0.001, 0.14, weights) * 1.6 + (
        0.35 * v.noise(200, 3000) * v.bursts(times, 0.0005, 0.03, weights)
    )


def bird(v: Voice):
    times = v.onsets(4.5, 0.2)
    s = v.since(times)
    sweep = 3400 + 1400 * np.sin(2 * np.pi * 14 * s) - 2500 * np.minimum(s, 0.3)
    return v.tone(sweep, (1, 0.15)) * v.bursts(times, 0.015, 0.05)


def cat(v: Voice):
    times = v.onsets(0.75, 0.06)
    s = v.since(times)
    curve = np.interp(s, (0, 0.25, 0.5, 0.9), (560, 760, 720, 430))
    level = np.interp(s, (0, 0.1, 0.6, 0.95, 1.0), (0, 1, 0.9, 0.1, 0))
    open_up = np.interp(s, (0, 0.3, 0.9), (0.2, 1.0, 0.3))
    return (v.tone(curve, (1, 0.3, 0.2), 0.01) + open_up * v.tone(curve * 4, (0.5, 0.35, 0.2), 0.01)) * level


def train(v: Voice):
    chuff = v.bursts(v.onsets(5.0, 0.02), 0.02, 0.05) * v.noise(150, 4000, -0.5)
    s = v.since([v.rng.uniform(0.1, 0.6) * v.seconds])
    whistle = (v.tone(620) + v.tone(780) + v.tone(930)) * np.interp(s, (0, 0.1, 0.9, 1.1), (0, 1, 1, 0))
    return chuff + 0.45 * whistle


def bee(v: Voice):
    drift = 215 * (1 + 0.06 * np.sin(2 * np.pi * 1.3 * v.tempo * v.t) + 0.03 * np.sin(2 * np.pi * 7 * v.t))
    near = 0.55 + 0.45 * np.sin(2 * np.pi * 0.6 * v.tempo * v.t + v.rng.uniform(0, 6))
    return v.tone(drift, 1 / np.arange(1, 18) ** 0.8) * near


def wind(v: Voice):
    gust = 0.5 + 0.5 * np.sin(2 * np.pi * 0.4 * v.tempo * v.t + v.rng.uniform(0, 6))
    low, high = v.noise(60, 500, -1.0), v.noise(350 * v.pitch, 900 * v.pitch)
    return low * (0.5 + 0.5 * gust) + (0.3 + v.loudness) * high * gust**2


def thunder(v: Voice):
    times = np.sort(v.rng.uniform(0, 0.85 * v.seconds, 1 + round(2 * v.loudness)))
    crack = v.noise(200, 5000) * v.bursts(times, 0.001, 0.05)
    return crack + 2.2 * v.noise(20, 160, -0.5) * v.bursts(times, 0.05, 0.7) + 0.05 * v.noise(20, 300, -1)


def frog(v: Voice):
    times = v.onsets(1.7, 0.08)
    s = v.since(times)
    pulses = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 38 * v.tempo * v.t))
    return (
        v.tone(480 + 260 * np.minimum(s, 0.3), (1, 0.6, 0.6, 0.3))
        * pulses
        * np.interp(s, (0, 0.03, 0.25, 0.3), (0, 1, 1, 0))
    )


def kettle(v: Voice):
    rise = np.linspace(0.85, 1.1, v.n)
    return v.tone(2350 * rise, (1, 0.25), 0.012) * 0.8 + 0.35 * v.noise(2500, 7000) + 0.2 * v.noise(60, 500)


def guitar(v: Voice):
    times, out = v.onsets(2.4, 0.03), np.zeros(v.n)
    for i, step in enumerate((0, 7, 12, 16)):
        mine = times[i::4]
        if len(mine):
            for k in range(1, 7):
                out += v.tone(147 * k * 2 ** (step / 12)) / k * v.bursts(mine, 0.001, 0.6 / k**0.7)
    return out


def phone(v: Voice):
    s = (v.t * v.tempo) % 1.5
    ring = np.interp(s, (0, 0.01, 0.75, 0.77), (0, 1, 1, 0)) * (0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 20 * v.t)))
    return (v.tone(1400) + v.tone(1750)) * ring


def siren(v: Voice):
    return v.tone(1000 + 420 * np.sin(2 * np.pi * 0.7 * v.tempo * v.t), (1, 0.4, 0.3, 0.15))


def boat(v: Voice):
    s = (v.t * v.tempo * 0.55 + 0.1) % 1.5
    return v.tone(118, (1, 0.8, 0.7, 0.5, 0.3, 0.2)) * np.interp(s, (0, 0.1, 1.0, 1.15), (0, 1, 1, 0)) + 0.1 * v.noise(
        30, 700, -1
    )


RECIPES = {
    function.__name__: function
    for function in (
        *(dog, rain, waves, baby, clock, sneeze, helicopter, chainsaw, rooster, fire, bell, drum, bird, cat, train),
        *(bee, wind, thunder, frog, kettle, guitar, phone, siren, boat),
    )
}


def synthesise(thing: str, loudness: float = 0.5, seed: int = 0, seconds: float = 2.56) -> np.ndarray:
    """The sound of a thing, mono at 16 kHz, (n,) float32. The same arguments give the same samples.

    loudness 0..1 is -38..-10 dB of full scale. Raises `PocketError` for an unknown thing.
    """
    if thing not in RECIPES:
        raise PocketError(f"There is no sound of {thing!r}", f"There are {', '.join(THINGS)}", "Choose one of them")
    if not (math.isfinite(loudness) and math.isfinite(seconds)):
        raise PocketError(
            f"The loudness is {loudness}, the seconds are {seconds}", "Both must be numbers", "Correct them"
        )
    rng = np.random.default_rng((seed, list(RECIPES).index(thing)))
    voice = Voice(seconds, float(loudness), rng)
    wave = _in_a_room(np.asarray(RECIPES[thing](voice)), rng)
    wave = wave - wave.mean()
    wave = wave / (np.sqrt(np.mean(wave**2)) + 1e-9) * 10 ** ((QUIET + (LOUD - QUIET) * loudness) / 20)
    hiss = 10 ** (rng.uniform(-75, -55) / 20) * rng.standard_normal(len(wave))
    # Peaks of short sounds are bent, not cut.
    return np.tanh(wave + hiss).astype(np.float32)


def _in_a_room(wave: np.ndarray, rng) -> np.ndarray:
    """A tail of noise that decays within 0.05 to 0.5 seconds."""
    share, decay = rng.uniform(0, 0.35), rng.uniform(0.05, 0.5)
    s = np.arange(int(min(2.0, 4 * decay) * RATE)) / RATE
    tail = rng.standard_normal(len(s)) * np.exp(-s / decay)
    tail /= np.sqrt(np.sum(tail**2)) + 1e-9
    return wave + share * convolve(wave, tail)


def mixture(thing: str, second: str, loudness: float = 0.5, seed: int = 0, seconds: float = 2.56) -> np.ndarray:
    """Two things that sound at once, as they do in a picture with both; (seconds * 16000,) float32 within -1..1."""
    wave = synthesise(thing, loudness, seed, seconds) + synthesise(second, loudness, seed + 1, seconds)
    return (wave / max(1.0, float(np.abs(wave).max()))).astype(np.float32)
