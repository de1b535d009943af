"""A real server with stand-in models for benchmarks that go over HTTP."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from devtools.client import Client, Run
from devtools.hosts import ensure_host, ensure_recordings
from devtools.server import Server, Workspace
from devtools.stand_in import StandIns, install


@dataclass(frozen=True)
class Served:
    """A running server and what is installed in it."""

    client: Client
    stand_ins: StandIns
    server: Server
    workspace: Workspace

    def seconds(self, graph: dict, timeout: float = 3600.0) -> float:
        """What the host itself says that a prompt took; raises AssertionError if it failed."""
        run = self.client.run(graph, timeout=timeout)
        assert run.status == "success", run.message
        return execution_seconds(run)


@contextlib.contextmanager
def served(version: str) -> Iterator[Served]:
    """A server of one version with the pack and the stand-ins."""
    host = ensure_host(version, development=True)
    with Workspace() as workspace:
        stand_ins = install(workspace, ensure_recordings())
        with Server(host, workspace) as server:
            yield Served(Client(server.url), stand_ins, server, workspace)


def execution_seconds(run: Run) -> float:
    """What the host itself says that the prompt took, without our waiting for it."""
    stamps = {event["type"]: event["data"].get("timestamp") for event in run.events}
    return (stamps["execution_success"] - stamps["execution_start"]) / 1000.0


def alternating(first, second, rounds: int) -> tuple[float, float, float]:
    """Median seconds of two timed functions of a round's number, and the median of first / second; one warm-up."""
    pairs = []
    for number in range(rounds + 1):
        order = (first, second) if number % 2 else (second, first)
        taken = {work: work(number) for work in order}
        if number:
            pairs.append((taken[first], taken[second]))
    ratio = statistics.median(a / b for a, b in pairs)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio


def loaded(stand_ins: StandIns, texts: list[str], width: int, height: int) -> dict:
    """Checkpoint (1), an empty latent (2), the negative prompt (3), and prompts with sounds (10, 11, ...)."""
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": height, "batch_size": 1}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    }
    for number, text in enumerate(texts):
        inputs = {"clip": ["1", 1], "text": text}
        graph[f"1{number}"] = {"class_type": "AAI_AudioTokenConditioning", "inputs": inputs}
    return graph


def sampler(model, positive, latent, seed: int, steps: int, denoise: float = 1.0) -> dict:
    inputs = {"model": model, "positive": positive, "negative": ["3", 0], "latent_image": latent, "seed": seed}
    inputs |= {"steps": steps, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    return {"class_type": "KSampler", "inputs": inputs}


def save_latent(samples) -> dict:
    return {"class_type": "SaveLatent", "inputs": {"samples": samples, "filename_prefix": "bench"}}
