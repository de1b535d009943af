"""Examples under the options with which people start ComfyUI: memory, attention, types, caches, files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from ...devtools import stand_in, workflows
from ...devtools.client import Client, Run
from ...devtools.hosts import Host, ensure_recordings
from ...devtools.report import say
from ...devtools.server import Server, Workspace
from . import prompts
from .serving import Served

COLUMNS = ["options", "examples", "failed", "ordinary workflow after", "edit's source", "closed edit", "seconds"]
OPTIONS = {
    # Without effect on a processor.
    "memory": (
        *("", "--lowvram", "--novram", "--highvram", "--gpu-only", "--disable-smart-memory", "--reserve-vram 1"),
        *("--cpu-vae", "--async-offload", "--disable-async-offload --disable-pinned-memory", "--force-non-blocking"),
    ),
    "attention": (
        *("--use-split-cross-attention", "--use-quad-cross-attention", "--use-pytorch-cross-attention"),
        *("--force-upcast-attention", "--dont-upcast-attention"),
    ),
    "types": (
        *("--force-fp32", "--force-fp16", "--bf16-unet --bf16-vae --bf16-text-enc"),
        *("--fp16-unet --fp16-vae --fp16-text-enc", "--fp8_e4m3fn-unet --fp8_e4m3fn-text-enc"),
        *("--fp8_e5m2-unet --fp8_e5m2-text-enc", "--fp16-intermediates", "--force-channels-last"),
        *("--deterministic", "--fast"),
    ),
    # Results that the host keeps between nodes and between runs.
    "caches": ("--cache-none", "--cache-lru 3", "--cache-classic", "--cache-ram 1", "--high-ram"),
    "files": (
        *("--multi-user", "--disable-metadata", "--disable-mmap", "--default-hashing-function md5", "--enable-assets"),
        *("--preview-method taesd", "--preview-method latent2rgb"),
    ),
}
# Between them they train, join sounds, edit, stylise a photo and a folder, and scale loudness.
EXAMPLES = (
    *("01 Sound to picture", "05 Another sound", "07 Sound in a scene", "09 Photo in the style of a sound"),
    *("10 Stylise a folder", "13 From soft to loud"),
)
NEAR = 0.02  # relative difference of latents that types of few bits explain


@dataclass
class Row:
    """What a server that was started with some options did."""

    options: str
    ran: int = 0
    failed: list[str] = field(default_factory=list)
    same: bool = False  # an ordinary workflow after all that gives the bits of the one before
    source: float = 0.0  # how far the source of an edit is from its run alone, relative to its size
    closed: float = 0.0  # and an edit whose windows are closed from the run of its prompt
    seconds: float = 0.0

    @property
    def findings(self) -> list[str]:
        found = list(self.failed)
        if not self.same:
            found.append("an ordinary workflow gave other bits afterwards")
        if max(self.source, self.closed) >= NEAR:
            found.append(
                f"an edit is {self.source:.2g} from its source and {self.closed:.2g} from its prompt's picture"
            )
        return [f"{self.options or 'no option'}: {text}" for text in found]

    def cells(self) -> list[str]:
        same = "same bits" if self.same else "differs"
        counts = [str(self.ran), str(len(self.failed)), same, _difference(self.source), _difference(self.closed)]
        return [self.options or "none", *counts, f"{self.seconds:.0f}"]


def _difference(value: float) -> str:
    return f"{value:.1e}" if value else "same bits"


def known(host: Host, options: str) -> bool:
    """Whether this version of the host has all of them."""
    text = (Path(host.comfyui) / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    return all(f'"{part}"' in text for part in options.split() if part.startswith("--"))


def flags(host: Host, group: str = "", examples: tuple[str, ...] = EXAMPLES) -> Iterator[Row]:
    """A row for each option of a group, or of all, that the host knows."""
    for name, options in OPTIONS.items():
        for option in options if group in ("", name) else ():
            if known(host, option):
                yield _row(host, option, examples)


def _row(host: Host, options: str, examples: tuple[str, ...]) -> Row:
    row, started = Row(options), time.monotonic()
    with Workspace() as workspace:
        graphs = dict(_graphs(workspace, examples))
        with Server(host, workspace, arguments=tuple(options.split())) as server:
            at = Served(server, workspace, Client(server.url))
            before = at.latent()
            for name, graph in graphs.items():
                run = at.run(graph)
                row.ran += 1
                if run.status != "success":
                    row.failed.append(f"{name}: {run.status}: {run.message[:300]}")
            row.source, row.closed = _edit(at, row.failed)
            row.same = at.latent() == before
    row.seconds = time.monotonic() - started
    say(" ".join([options or "no option", *(row.findings or ["no finding"])]))
    return row


def _graphs(workspace: Workspace, examples: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """Each example on the pocket models and on a checkpoint, in the order in which they build on each other."""
    files = replace(stand_in.install(workspace, ensure_recordings()), steps=8, resolution=64, sampler_steps=3)
    for name in examples:
        yield f"{name} (pocket)", prompts.example(name)
    for name in examples:
        yield f"{name} (checkpoint)", workflows.shrink(workflows.load_real(name), files)


def _edit(at: Served, failed: list[str]) -> tuple[float, float]:
    """How far source and closed edit are from the runs of their prompts alone."""
    source, target = "a photo of a beach", "a photo of a cat on a beach"
    graphs = [prompts.picture(source), prompts.picture(target), prompts.edited(source, target, 0.0)]
    runs = [at.run(graph) for graph in graphs]
    failed += [f"edit: {run.status}: {run.message[:300]}" for run in runs if run.status != "success"]
    if failed:
        return math.nan, math.nan
    alone, other, both = (_latent(at, run) for run in runs)
    return _apart(both[0], alone[0]), _apart(both[1], other[0])


def _latent(at: Served, run: Run) -> np.ndarray:
    """The latent (B, C, H, W) that node 9 saved."""
    (file,) = run.outputs["9"]["latents"]
    return load(at.client.fetch(file))["latent_tensor"].astype(np.float32)


def _apart(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())
