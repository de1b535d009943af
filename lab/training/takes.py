"""The same sound as another take of it, two sounds at once, and the audible parts of a recording: spectrograms that a
training hears in a clip's place."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.audio.fbank import FBANK_MEAN, FBANK_STD

KNOTS = 9  # of a microphone's response over all bands
AUDIBLE = 0.25  # of the loudest part's power: 6 dB less


def augment(fbank: Tensor, rng: np.random.Generator) -> Tensor:
    """Spectrograms (B, 256, 128) of another take: speed, pitch, level, start, microphone and noise differ, and now and then
    a band or a moment is lost."""
    (count, frames, bands), device = fbank.shape, fbank.device

    def normal(spread: float) -> Tensor:
        return torch.from_numpy(rng.normal(0, spread, count).astype(np.float32)).to(device)

    warp = torch.zeros(count, 2, 3, device=device)  # of (band, frame) in -1..1
    warp[:, 0, 0], warp[:, 0, 2] = normal(0.02).exp(), normal(0.07)
    warp[:, 1, 1] = normal(0.08).exp().clamp_max(1.0)
    grid = F.affine_grid(warp, [count, 1, frames, bands], align_corners=False)
    taken = F.grid_sample(fbank[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    starts = rng.integers(0, frames, count)
    taken = torch.stack([one.roll(int(start), 0) for one, start in zip(taken, starts, strict=True)])
    generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**31)))
    noise = torch.rand(fbank.shape, generator=generator, device=device) * (rng.random() / 10)
    response = torch.stack([normal(0.3) for _ in range(KNOTS)], -1)[:, None]  # of the microphone
    response = F.interpolate(response, size=bands, mode="linear", align_corners=True)
    taken = taken + noise + normal(0.35).view(-1, 1, 1) + response
    lost = _strips(count, frames, 32, rng)[:, :, None] | _strips(count, bands, 12, rng)[:, None]
    return torch.where(lost.to(device), taken.mean((1, 2), keepdim=True), taken)


def _strips(count: int, length: int, widest: int, rng: np.random.Generator) -> Tensor:
    """In two of five rows of (count, length) a strip that is True."""
    first = rng.integers(0, length - widest, (count, 1))
    width = rng.integers(0, widest, (count, 1)) * (rng.random((count, 1)) < 0.4)
    place = np.arange(length)
    return torch.from_numpy((place >= first) & (place < first + width))


def some_patches(count: int, patches: int, share: float, rng: np.random.Generator) -> Tensor:
    """Numbers of a share of the patches, drawn anew for each of `count` inputs: (count, K)."""
    order = rng.random((count, patches)).argsort(1)
    return torch.from_numpy(np.sort(order[:, : max(1, round(share * patches))], 1))


def mix(first: Tensor, second: Tensor, rng: np.random.Generator) -> Tensor:
    """Spectrograms (B, 256, 128) of sounds that are heard together, some 3 dB louder or quieter than each other: powers add."""
    level = torch.from_numpy(rng.normal(0, 0.7, len(first)).astype(np.float32)).view(-1, 1, 1)
    return torch.logaddexp(FBANK_STD * first, FBANK_STD * second + level) / FBANK_STD


def audible_starts(fbank: Tensor, frames: int) -> list[np.ndarray]:
    """Where parts of `frames` frames begin that a recording (N, T, 128) can be known by, for each recording: not its silence.

    A part is as loud as a quarter of the loudest one, in power.
    """
    power = (FBANK_STD * fbank.double() + FBANK_MEAN).exp().sum(2)  # (N, T)
    power = power.unfold(1, frames, 1).sum(2)  # (N, T - frames + 1)
    return [np.flatnonzero(one) for one in (power >= AUDIBLE * power.amax(1, keepdim=True)).numpy()]
