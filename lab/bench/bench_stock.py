"""A stock workflow on three servers, one with the pack and two without: paired runs."""

from __future__ import annotations

import contextlib
import statistics

from devtools.client import Client
from devtools.hosts import ensure_host, ensure_recordings
from devtools.server import Server, Workspace
from devtools.stand_in import install

from .serving import execution_seconds

ROUNDS = 15


def stock_prompt(checkpoint: str, seed: int) -> dict:
    """Text to image, 20 steps at 128 x 128."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": f"a photo of storm {seed}"}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": seed,
                "steps": 20,
                "cfg": 7.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "bench"}},
    }


def measure(version: str) -> dict:
    host = ensure_host(version, development=True)
    with contextlib.ExitStack() as stack:
        # The second server without the pack shows what chance alone does to the ratio.
        workspaces = [stack.enter_context(Workspace(pack=pack)) for pack in (False, True, False)]
        checkpoints = [install(workspace, ensure_recordings()).checkpoint for workspace in workspaces]
        clients = [Client(stack.enter_context(Server(host, workspace)).url) for workspace in workspaces]
        seconds: list[list[float]] = [[], [], []]
        for seed in range(ROUNDS + 2):
            # Who goes first rotates, so that a drift of the machine hits all alike.
            for side in sorted(range(3), key=lambda side: (side + seed) % 3):
                run = clients[side].run(stock_prompt(checkpoints[side], seed))
                assert run.status == "success", run.message
                if seed >= 2:
                    seconds[side].append(execution_seconds(run))
    without, with_pack, again = seconds
    rows = []
    for label, series in (("with / without", with_pack), ("without / without", again)):
        ratios = [b / a for a, b in zip(without, series, strict=True)]
        quartiles = "{:.3f} to {:.3f}".format(*statistics.quantiles(ratios, n=4)[::2])
        medians = [f"{statistics.median(values):.3f}" for values in (without, series)]
        rows.append([label, *medians, f"{statistics.median(ratios):.3f}", quartiles])
    return {
        "title": f"stock: an ordinary workflow on ComfyUI {version}, {ROUNDS} rounds",
        "columns": ["", "without (median s)", "other (median s)", "ratio (median)", "ratio (quartiles)"],
        "rows": rows,
        "goal": "with / without is 1.00 within what chance does to without / without",
    }
