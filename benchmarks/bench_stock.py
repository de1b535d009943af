"""A stock workflow on two servers, one with the pack and one without: paired runs."""

from __future__ import annotations

import statistics

from devtools.client import Client
from devtools.hosts import ensure_host, ensure_recordings
from devtools.server import Server, Workspace
from devtools.stand_in import install

PAIRS = 15


def stock_prompt(checkpoint: str, seed: int) -> dict:
    """Text to image, 20 steps at 128 x 128."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": f"a photo of storm {seed}"}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]},
                **{"seed": seed, "steps": 20, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal"},
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "bench"}},
    }


def measure(version: str) -> dict:
    host = ensure_host(version, development=True)
    with Workspace() as ours, Workspace(pack=False) as bare:
        checkpoint = install(ours, ensure_recordings()).checkpoint
        install(bare, ensure_recordings())
        with Server(host, ours) as with_pack, Server(host, bare) as without:
            sides = [Client(without.url), Client(with_pack.url)]
            seconds: list[list[float]] = [[], []]
            for seed in range(PAIRS + 2):
                # Whichever goes first alternates, so that a drift of the machine hits both alike.
                for side in (0, 1) if seed % 2 else (1, 0):
                    run = sides[side].run(stock_prompt(checkpoint, seed))
                    assert run.status == "success", run.message
                    if seed >= 2:
                        seconds[side].append(run.seconds)
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    return {
        "title": f"stock: an ordinary workflow on ComfyUI {version}, {PAIRS} pairs",
        "columns": ["without (median s)", "with (median s)", "ratio (median)", "ratio (quartiles)"],
        "rows": [
            [
                *(f"{statistics.median(side):.3f}" for side in seconds),
                f"{statistics.median(ratios):.3f}",
                "{:.3f} to {:.3f}".format(*statistics.quantiles(ratios, n=4)[::2]),
            ]
        ],
        "goal": "1.00 within noise",
    }
