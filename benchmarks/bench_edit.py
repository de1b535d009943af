"""A source and its edits against plain runs of the same sampler, on a real server."""

from __future__ import annotations

import statistics

from devtools.client import Client
from devtools.hosts import ensure_host, ensure_recordings
from devtools.server import Server, Workspace
from devtools.stand_in import install

from .bench_stock import execution_seconds

ROUNDS, STEPS, SIDE = 3, 8, 128
EDITS = (1, 2, 8)


def prompts(count: int, seed: int) -> list[str]:
    """A source and `count` edits of it."""
    return [f"a sea {seed} along the beach", *(f"a sea {seed} with boats {n} along the beach" for n in range(count))]


def _loaded(checkpoint: str, texts: list[str]) -> dict:
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": SIDE, "height": SIDE, "batch_size": 1}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    }
    for number, text in enumerate(texts):
        inputs = {"clip": ["1", 1], "text": text}
        graph[f"1{number}"] = {"class_type": "AAI_AudioTokenConditioning", "inputs": inputs}
    return graph


def _sampler(model, positive, latent, seed: int) -> dict:
    inputs = {"model": model, "positive": positive, "negative": ["3", 0], "latent_image": latent, "seed": seed}
    inputs |= {"steps": STEPS, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    return {"class_type": "KSampler", "inputs": inputs}


def edited(checkpoint: str, count: int, seed: int) -> dict:
    """Source and edits in one sampler."""
    graph = _loaded(checkpoint, prompts(count, seed))
    inputs = {"model": ["1", 0], "source": ["10", 0], "target": ["11", 0], "latent": ["2", 0]}
    inputs |= {"cross_end": 0.8, "self_end": 0.4, "controller": "AttentionRefine", "memory": "auto"}
    inputs |= {f"target_{n}": [f"1{n}", 0] for n in range(2, count + 1)}
    graph["4"] = {"class_type": "AAI_P2PAttentionInject", "inputs": inputs}
    graph["5"] = _sampler(["4", 0], ["4", 1], ["4", 2], seed)
    graph["6"] = {"class_type": "SaveLatent", "inputs": {"samples": ["5", 0], "filename_prefix": "bench"}}
    return graph


def plain(checkpoint: str, count: int, seed: int) -> dict:
    """The same prompts, each in a sampler of its own."""
    graph = _loaded(checkpoint, prompts(count, seed))
    for number in range(count + 1):
        graph[f"5{number}"] = _sampler(["1", 0], [f"1{number}", 0], ["2", 0], seed)
        inputs = {"samples": [f"5{number}", 0], "filename_prefix": "bench"}
        graph[f"6{number}"] = {"class_type": "SaveLatent", "inputs": inputs}
    return graph


def measure(version: str) -> dict:
    host = ensure_host(version, development=True)
    rows = []
    with Workspace() as workspace:
        checkpoint = install(workspace, ensure_recordings()).checkpoint
        with Server(host, workspace) as server:
            client = Client(server.url)
            for count in EDITS:
                ratios, seconds = [], []
                for seed in range(ROUNDS + 1):
                    graphs = [
                        edited(checkpoint, count, 100 * count + seed),
                        plain(checkpoint, count, 100 * count + 50 + seed),
                    ]
                    order = (0, 1) if seed % 2 else (1, 0)
                    taken = {}
                    for which in order:
                        run = client.run(graphs[which])
                        assert run.status == "success", run.message
                        taken[which] = execution_seconds(run)
                    if seed:
                        ratios.append(taken[0] / taken[1])
                        seconds.append((taken[0], taken[1]))
                ours, peer = (statistics.median(side) for side in zip(*seconds, strict=True))
                ratio = statistics.median(ratios)
                of_pairs = ratio * (count + 1) / (2 * count)
                rows.append([f"{count}", f"{ours:.2f}", f"{peer:.2f}", f"{ratio:.2f}", f"{of_pairs:.2f}"])
    return {
        "title": f"edit: a source and N edits on ComfyUI {version}, {STEPS} steps, {SIDE} px, {ROUNDS} rounds",
        "columns": ["N", "ours (median s)", "N + 1 plain runs (s)", "of N + 1 runs", "of 2 N runs"],
        "rows": rows,
        "goal": "N = 1: at most 1.10 of 2 runs; N = 8: under 0.75 of 16 runs",
    }
