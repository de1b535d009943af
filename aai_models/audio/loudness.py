"""Loudness after ITU-R BS.1770-4 and EBU R128, for any sample rate, and its way to the scale of Eq. 8."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .errors import AudioError
from .recursive import BlockFilter
from .waveform import as_waveform

STEP = 0.1  # seconds; blocks overlap by multiples of it
BLOCK = 4  # steps: 400 ms
OFFSET = -0.691  # LU, so that a 997 Hz sine of full scale in one channel reads -3.01 LUFS at 48 kHz
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS, LU
CHUNK = 100  # steps that are filtered at a time; bounds the memory of long recordings

# Weights by position for the usual orders of channels (5.1: L R C LFE Ls Rs; 7.1: L R C LFE Lb Rb Ls Rs).
CHANNEL_WEIGHTS = {
    4: (1, 1, 1.41, 1.41),
    5: (1, 1, 1, 1.41, 1.41),
    6: (1, 1, 1, 0, 1.41, 1.41),
    8: (1, 1, 1, 0, 1, 1, 1.41, 1.41),
}

MAPPINGS = ("sone", "linear_lu", "relative", "manual")
LARGEST_SCALE = 2.0


def integrated(waveform: Tensor, sample_rate: int) -> Tensor:
    """Gated loudness of whole clips, BS.1770-4: (B, C, T), Hz -> LUFS (B,), -inf for silence.

    A clip under 400 ms has no block: its K-weighted level is given, ungated.
    """
    blocks = momentary(waveform, sample_rate)  # (B, frames)
    return torch.stack([_gated(row) for row in blocks])


def momentary(waveform: Tensor, sample_rate: int) -> Tensor:
    """Loudness of 400 ms each 100 ms: (B, C, T), Hz -> LUFS (B, frames); a shorter clip gives one frame of what is there."""
    waveform, sample_rate = as_waveform({"waveform": waveform, "sample_rate": sample_rate})
    weights = CHANNEL_WEIGHTS.get(waveform.shape[1], (1,) * waveform.shape[1])
    energy = torch.einsum("bct,c->bt", step_energy(waveform, sample_rate), torch.tensor(weights, dtype=torch.float64))
    edges = torch.from_numpy(_edges(waveform.shape[-1], sample_rate))
    full = energy.shape[1] - (1 if waveform.shape[-1] < round(energy.shape[1] * STEP * sample_rate) else 0)
    if full < BLOCK:
        return _lufs(energy.sum(dim=1, keepdim=True) / waveform.shape[-1])
    sums = energy[:, :full].unfold(1, BLOCK, 1).sum(dim=-1)  # (B, frames)
    lengths = edges[BLOCK : full + 1] - edges[: full + 1 - BLOCK]
    return _lufs(sums / lengths)


def to_scale(
    lufs: float | Tensor, mapping: str = "sone", reference: float = -23.0, manual: float = 1.0
) -> float | Tensor:
    """Loudness (LUFS) -> the scale of Eq. 8 in [0, 2]; a tensor gives a tensor. Silence gives 0, `reference` gives 1.

    `sone` doubles for each 10 LU, as loudness is perceived; `linear_lu` is 0 at 20 LU below the reference and 2 at 20 LU
    above; `relative` is `sone` against the sound that the word was made of, whose LUFS is the `reference`; `manual` is
    the number `manual`, whatever the sound. The paper gives no mapping. Raises `ValueError` for unknown mappings.
    """
    if mapping not in MAPPINGS:
        raise ValueError(f"mapping is {mapping!r}; known are {', '.join(MAPPINGS)}")
    if not math.isfinite(reference):
        raise AudioError(
            f"The reference loudness is {reference} LUFS",
            "It must be a finite number",
            "Choose a reference that can be heard",
        )
    level = torch.as_tensor(lufs, dtype=torch.float64)
    if torch.isnan(level).any():
        raise AudioError(
            "The loudness is NaN", "It must be a number of LUFS, or -inf for silence", "Measure the sound again"
        )
    if mapping == "manual":
        scale = torch.full_like(level, manual)
    elif mapping == "linear_lu":
        scale = 1.0 + (level - reference) / 20.0
    else:
        scale = 2.0 ** ((level - reference) / 10.0)
    scale = scale.clamp(0.0, LARGEST_SCALE)
    return scale.to(torch.float32) if isinstance(lufs, Tensor) else float(scale)


def step_energy(waveform: Tensor, sample_rate: int) -> Tensor:
    """Sums of squares of the K-weighted signal in steps of 100 ms: (B, C, T) -> (B, C, steps) float64.

    The last step may be shorter. Step k begins at sample round(k * sample_rate / 10).
    """
    k_filter = BlockFilter(k_weighting(sample_rate), torch.float32)
    state = torch.zeros(waveform.shape[0] * waveform.shape[1], k_filter.order, dtype=torch.float64)
    edges = _edges(waveform.shape[-1], sample_rate)
    energies = []
    for first in range(0, len(edges) - 1, CHUNK):
        part = edges[first : first + CHUNK + 1]
        chunk = waveform[..., part[0] : part[-1]].reshape(-1, part[-1] - part[0]).float()
        filtered, state = k_filter(chunk, state)
        energies.append(_sums_of_squares(filtered, part - part[0]))
    return torch.cat(energies, dim=-1).reshape(*waveform.shape[:2], -1)


def _sums_of_squares(signal: Tensor, edges: np.ndarray) -> Tensor:
    """(R, T) -> (R, steps) float64 between the edges."""
    lengths = np.diff(edges)
    if (lengths == lengths[0]).all():
        steps = signal.unflatten(-1, (len(lengths), int(lengths[0])))
        return torch.linalg.vecdot(steps, steps).double()
    return torch.from_numpy(np.add.reduceat(signal.double().square_().numpy(), edges[:-1], axis=-1))


def k_weighting(sample_rate: int) -> np.ndarray:
    """The filter of BS.1770 as second-order sections (n, 6), from the analogue prototype of De Man (2014).

    At 48 kHz it is the standard's table. A stage whose corner lies above the Nyquist frequency is left out.
    """
    sections = []
    for corner, quality, gain in (
        (1681.974450955533, 0.7071752369554196, 3.999843853973347),  # treble shelf, dB
        (38.13547087602444, 0.5003270373238773, None),  # high-pass
    ):
        if corner >= sample_rate / 2:
            continue
        k = math.tan(math.pi * corner / sample_rate)
        a0 = 1 + k / quality + k * k
        if gain is None:
            numerator = (1.0, -2.0, 1.0)
        else:
            high = 10 ** (gain / 20)
            middle = high**0.4996667741545416
            numerator = tuple(
                b / a0
                for b in (high + middle * k / quality + k * k, 2 * (k * k - high), high - middle * k / quality + k * k)
            )
        sections.append((*numerator, 1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0))
    return np.array(sections).reshape(-1, 6)


def _edges(samples: int, sample_rate: int) -> np.ndarray:
    """Where the steps begin, and the end: strictly increasing."""
    steps = math.ceil(samples / (STEP * sample_rate))
    edges = np.round(np.arange(steps + 1) * (STEP * sample_rate)).astype(np.int64)
    return np.unique(np.append(edges[edges < samples], samples))


def _lufs(mean_square: Tensor) -> Tensor:
    return OFFSET + 10 * torch.log10(mean_square)


def integrated_of_steps(mean_squares: Tensor) -> float:
    """Gated loudness in LUFS of steps of 100 ms, (n,) weighted sums over the channels of the K-weighted mean square; -inf
    for none. A part of a recording is measured by its steps as `integrated` measures it alone, to about 0.1 LU."""
    if not mean_squares.numel():
        return -math.inf
    size = min(BLOCK, mean_squares.shape[0])
    return float(_gated(_lufs(mean_squares.unfold(0, size, 1).mean(dim=-1))))


def _gated(blocks: Tensor) -> Tensor:
    """LUFS of one clip's blocks (frames,) -> its integrated loudness, a scalar."""
    if blocks.shape[0] == 1:
        return blocks[0]
    loud = blocks[blocks > ABSOLUTE_GATE]
    if not loud.numel():
        return torch.tensor(-math.inf, dtype=blocks.dtype)
    loud = loud[loud > _mean(loud) + RELATIVE_GATE]
    return _mean(loud)


def _mean(blocks: Tensor) -> Tensor:
    """The loudness of the mean power of blocks in LUFS."""
    return _lufs((10 ** ((blocks - OFFSET) / 10)).mean())
