"""Integrated loudness beside pyloudnorm."""

from __future__ import annotations

import torch

from aai_models.audio.loudness import integrated

from .timing import COLUMNS, paired, row


def measure(version: str) -> dict:
    import pyloudnorm

    clip = torch.randn(1, 2, 60 * 48_000, generator=torch.Generator().manual_seed(0)) * 0.1
    samples, meter = clip[0].T.double().numpy(), pyloudnorm.Meter(48_000, filter_class="DeMan")
    timed = paired(lambda: integrated(clip, 48_000), lambda: meter.integrated_loudness(samples))
    return {
        "title": "loudness: 60 s stereo at 48 kHz; peer: pyloudnorm",
        "columns": COLUMNS,
        "rows": [row("integrated", timed, "3x")],
        "goal": "3 times as fast",
    }
