"""The encoder's spectrogram beside torchaudio's port of Kaldi."""

from __future__ import annotations

import torch

from aai_models.audio.fbank import kaldi_fbank

from .timing import COLUMNS, paired, row

OPTIONS = {"htk_compat": True, "use_energy": False, "window_type": "hanning", "num_mel_bins": 128, "dither": 0.0}


def measure(version: str) -> dict:
    from torchaudio.compliance.kaldi import fbank

    clips = torch.randn(16, 160_000, generator=torch.Generator().manual_seed(0)) * 0.1

    def peer(batch):
        return [fbank(clip[None], sample_frequency=16000, frame_shift=10, **OPTIONS) for clip in batch]

    rows = []
    for count, goal in ((1, "1x"), (16, "4x")):
        batch = clips[:count]
        rows.append(
            row(f"{count} clips of 10 s", paired(lambda b=batch: kaldi_fbank(b), lambda b=batch: peer(b)), goal)
        )
    return {
        "title": "fbank: log-mel spectrogram; peer: torchaudio.compliance.kaldi.fbank, clip by clip",
        "columns": COLUMNS,
        "rows": rows,
        "goal": "as fast for one clip, 4 times as fast for 16",
    }
