"""CAVT-MAE's audio tower beside a transformer of the same width, depth and number of tokens from `transformers`."""

from __future__ import annotations

import torch

from aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from devtools.device import current

from .timing import COLUMNS, paired, row


def measure(version: str) -> dict:
    from transformers import ASTConfig, ASTModel

    torch.manual_seed(0)
    ours = CAVTMAE(CAVTMAEConfig(image_tokens=0)).eval()
    # 12 blocks of 768 on 8 x 64 patches of 16 x 16, and its two extra tokens.
    peer = ASTModel(ASTConfig(frequency_stride=16, time_stride=16, max_length=1024, num_mel_bins=128)).eval()
    ours, peer, rows = ours.to(current()), peer.to(current()), []
    with torch.inference_mode():
        for batch in (1, 8):
            fbank = torch.randn(batch, 1024, 128, device=current())
            timed = paired(lambda x=fbank: ours.encode_audio(x), lambda x=fbank: peer(x), rounds=7 if batch == 1 else 5)
            rows.append(row(f"batch {batch}", timed, "1.2x"))
    return {
        "title": f"tower: on {current()}, the audio tower, 12 blocks of 768 on 512 tokens; peer: transformers' ASTModel on 514",
        "columns": COLUMNS,
        "rows": rows,
        "goal": "1.2 times as fast",
    }
