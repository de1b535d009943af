"""One server under load for a long time: every kind of example in random order, trainings, a large batch."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ...devtools.report import say
from . import measure, prompts
from .serving import SYSTEM_TEMP, Served, shuffled, write_photos

PROMPTS, TRAININGS, PICTURES = 1000, 200, 2000  # at most, of the three parts
SHARES = {"prompts": 0.55, "trainings": 0.15, "batch": 0.3}  # of the time
GROWS = 0.05  # share of its beginning that memory or work may gain over a part, beside the noise
SAMPLE: tuple[str, ...] = ()  # examples that are run; all, if none is named
SEED = 20


@dataclass
class Part:
    """The record of one part of the run: a value for each prompt, training or picture."""

    name: str
    kinds: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)  # seconds of processor time
    memory: list[float] = field(default_factory=list)  # MB
    failures: list[str] = field(default_factory=list)

    def add(self, kind: str, seconds: float, work: float, memory: float) -> None:
        self.kinds.append(kind)
        self.seconds.append(seconds)
        self.work.append(work)
        self.memory.append(memory)

    def _by_kind(self, values: list[float]) -> dict[str, list[float]]:
        return {kind: [v for k, v in zip(self.kinds, values, strict=True) if k == kind] for kind in self.kinds}

    def relative_work(self) -> list[float]:
        """Each processor time in percent of the median of its kind: kinds differ, a server that gets slower does not."""
        middle = {kind: max(sorted(own)[len(own) // 2], 0.01) for kind, own in self._by_kind(self.work).items()}
        return [100 * work / middle[kind] for kind, work in zip(self.kinds, self.work, strict=True)]

    def medians(self) -> str:
        """Seconds of each kind."""
        by_kind = self._by_kind(self.seconds)
        return ", ".join(f"{kind} {sorted(own)[len(own) // 2]:.2f} s" for kind, own in sorted(by_kind.items()))

    @property
    def memory_slope(self) -> measure.Slope:
        return measure.slope(self.memory)

    @property
    def work_slope(self) -> measure.Slope:
        return measure.slope(self.relative_work())


@dataclass(frozen=True)
class Soak:
    """What a run gave."""

    parts: list[Part]
    left: dict[str, int]  # folder of the workspace -> files that came
    unexpected: list[str]  # files that nobody asked for
    same_bits: bool  # an ordinary workflow after it all, compared with before

    @property
    def findings(self) -> list[str]:
        found = [f"{part.name}: {text}" for part in self.parts for text in part.failures]
        for part in self.parts:
            for what, line in (("memory", part.memory_slope), ("work", part.work_slope)):
                if line.grown > GROWS and not line.is_flat:
                    found.append(f"{part.name}: {what} grows by {100 * line.grown:.0f} % over {line.count} of them")
        found += [f"left behind: {name}" for name in self.unexpected]
        return found if self.same_bits else [*found, "an ordinary workflow has other bits afterwards"]

    def rows(self) -> list[list[str]]:
        return [
            [
                part.name,
                str(len(part.seconds)),
                f"{part.memory[0]:.0f}" if part.memory else "-",
                f"{part.memory[-1]:.0f}" if part.memory else "-",
                str(part.memory_slope),
                f"{sum(part.seconds) / max(len(part.seconds), 1):.2f}",
                str(part.work_slope),
                str(len(part.failures)),
            ]
            for part in self.parts
        ]


COLUMNS = ["part", "count", "MB first", "MB last", "MB per 1000", "s each", "work %, per 1000", "failed"]


def soak(at: Served, seconds: float) -> Soak:
    """Put a server under load for about `seconds`, or until each part has its count."""
    before = measure.files(at.workspace.root)
    bits = at.latent()
    parts = [
        _prompts(at, seconds * SHARES["prompts"]),
        _trainings(at, seconds * SHARES["trainings"]),
        _batch(at, seconds * SHARES["batch"]),
    ]
    same = at.latent() == bits
    came = measure.files(at.workspace.root) - before
    left = Counter(_place(name) for name in came)
    unexpected = measure.half_written(came) + [name for name in came if name.startswith(SYSTEM_TEMP)]
    return Soak(parts, dict(left), sorted(set(unexpected)), same)


def _place(name: str) -> str:
    """The folder of a file, two levels deep."""
    return "/".join(Path(name).parts[:-1][:2])


def _prompts(at: Served, seconds: float) -> Part:
    rng, part = random.Random(SEED), Part("prompts")
    graphs = prompts.examples()
    ends = time.monotonic() + seconds
    for kind in shuffled(sorted(SAMPLE or graphs), rng):
        if len(part.seconds) == PROMPTS or time.monotonic() > ends:
            return part
        graph = prompts.varied(graphs[kind], rng)
        for node in graph.values():  # its output in a folder of its own, or all its pictures are there already
            if node["class_type"] == "AAI_BatchStylize":
                node["inputs"]["output"] = f"stylised-{len(part.seconds)}"
        _one(at, part, kind, graph)
    return part


def _trainings(at: Served, seconds: float) -> Part:
    part, ends = Part("trainings"), time.monotonic() + seconds
    while len(part.seconds) < TRAININGS and time.monotonic() < ends:
        _one(at, part, "training", prompts.training(8, seed=len(part.seconds)))
    return part


def _one(at: Served, part: Part, kind: str, graph: dict) -> None:
    before = measure.work(at.server.pid)
    run = at.run(graph)
    if run.status != "success":
        part.failures.append(f"{kind}: {run.status}: {run.message[:200]}")
    part.add(kind, run.seconds, measure.work(at.server.pid) - before, measure.memory(at.server.pid))
    if len(part.seconds) % 50 == 0:
        say(f"soak: {len(part.seconds)} {part.name}, {part.memory[-1]:.0f} MB")


def _batch(at: Served, seconds: float) -> Part:
    """One prompt that makes many pictures; it is cancelled when the time is over."""
    part, folder = Part("batch"), "soak-photos"
    write_photos(at.workspace.input / folder, PICTURES)
    ends, last = time.monotonic() + seconds, [time.monotonic(), measure.work(at.server.pid)]

    def on_event(event: dict) -> bool:
        if event["type"] == "aai.message":  # one before each picture; the host leaves out some of its progress
            now = [time.monotonic(), measure.work(at.server.pid)]
            part.add("picture", now[0] - last[0], now[1] - last[1], measure.memory(at.server.pid))
            last[:] = now
        return bool(part.seconds) and time.monotonic() > ends  # a slow machine makes at least one

    run = at.run(prompts.batch(folder, "soak-batch"), on_event=on_event, timeout=seconds + 120)
    if run.status not in ("success", "interrupted"):
        part.failures.append(f"{run.status}: {run.message[:200]}")
    return part
