"""A real server for the runs of this package, and what its HTTP API offers beyond running a prompt."""

from __future__ import annotations

import contextlib
import json
import random
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...devtools.client import Client, Run
from ...devtools.hosts import Host
from ...devtools.report import DevError
from ...devtools.server import Server, Workspace
from . import prompts

SYSTEM_TEMP = "system_temp"  # the server's folder for temporary files, so that what it leaves there is seen
TIMEOUT = 600.0  # seconds for one prompt


@dataclass
class Served:
    """A running server and what is installed in it."""

    server: Server
    workspace: Workspace
    client: Client

    def run(self, graph: dict, **options) -> Run:
        run = self.client.run(graph, **{"timeout": TIMEOUT, **options})
        self.forget()
        return run

    def forget(self) -> None:
        """Empty the server's history: it keeps every prompt, which would look like a leak."""
        post(self.server.url, "/history", {"clear": True})

    def latent(self, seed: int = 7) -> bytes:
        """The bytes of an ordinary workflow's latent, sampled and not taken from the host's cache."""
        self.run(prompts.ordinary(seed + 1000))
        run = self.run(prompts.ordinary(seed))
        cached = {
            node for event in run.events if event["type"] == "execution_cached" for node in event["data"]["nodes"]
        }
        if run.status != "success" or "5" in cached:
            raise DevError(f"An ordinary workflow ended with {run.status} {run.message}\n{self.server.tail()}")
        (file,) = run.outputs["6"]["latents"]
        return values(self.client.fetch(file))


def values(latent: bytes) -> bytes:
    """The values in a SaveLatent file, without its header, which names the prompt."""
    header = int.from_bytes(latent[:8], "little")
    return latent[8 + header :]


def post(url: str, path: str, content: dict) -> None:
    request = urllib.request.Request(url + path, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30):
        pass


def prepared(workspace: Workspace) -> None:
    """Give a workspace the folder in which its server puts temporary files."""
    (workspace.root / SYSTEM_TEMP).mkdir(exist_ok=True)


def start(host: Host, workspace: Workspace) -> Server:
    return Server(host, workspace, environment={"TMPDIR": str(workspace.root / SYSTEM_TEMP)})


@contextlib.contextmanager
def served(host: Host, folder: Path | None = None) -> Iterator[Served]:
    """A server of one version with the pack and the files that the graphs name."""
    with Workspace(folder) as workspace:
        prepared(workspace)
        with start(host, workspace) as server:
            yield Served(server, workspace, Client(server.url))


def write_photos(folder: Path, count: int, side: int = 64, seed: int = 0) -> None:
    """Fill a folder with `count` coarse random pictures in place of what it held."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    noise = np.random.default_rng(seed)
    for number in range(count):
        coarse = noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(folder / f"photo_{number:04}.png")


def shuffled(kinds: list[str], rng: random.Random) -> Iterator[str]:
    """The kinds without end in random order, each as often as the others."""
    while True:
        yield from rng.sample(kinds, len(kinds))
