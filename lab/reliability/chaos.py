"""Kills (`kill -9`) and cancels at random moments, and what the next start finds."""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from dataclasses import dataclass, field

from ...devtools.client import Client
from ...devtools.hosts import Host
from ...devtools.report import DevError, say
from ...devtools.server import Server, Workspace
from . import jobs, prompts
from .forked import ForkedHost
from .serving import Served, post, prepared, start, values, write_photos

SEED = 20
KILLS, CANCELS = 300, 300  # at most
IN_A_ROW = 3  # kills of one run, before it may end
SHARES = {"copies": 0.4, "servers": 0.25, "cancels": 0.35}  # of the time
PHOTOS = "chaos-photos"
COLUMNS = ["what", "tried", "struck", "went on to the same end", "unfinished files", "findings"]


@dataclass
class Tally:
    """One row of the table."""

    what: str
    tried: int = 0
    struck: int = 0  # came before the end
    ended: int = 0  # runs after that which ended with the result of a run in one piece
    unfinished: int = 0  # files with the name of an unfinished write that kills left
    findings: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        return [
            self.what,
            *(str(n) for n in (self.tried, self.struck, self.ended, self.unfinished, len(self.findings))),
        ]


@dataclass
class Chaos:
    tallies: list[Tally] = field(default_factory=list)

    def add(self, tallies: list[Tally]) -> None:
        """Keep them, and say what they are: a run of an hour that ends early has told what it found."""
        self.tallies += tallies
        for tally in tallies:
            say("chaos: " + ", ".join(f"{name} {value}" for name, value in zip(COLUMNS, tally.row(), strict=True)))

    def rows(self) -> list[list[str]]:
        return [tally.row() for tally in self.tallies]

    @property
    def findings(self) -> list[str]:
        return [f"{tally.what}: {finding}" for tally in self.tallies for finding in tally.findings]


def chaos(host: Host, seconds: float, seed: int = SEED) -> Chaos:
    """Kills of copies, kills of whole servers, cancels; each for its share of the time."""
    found = Chaos()
    with Workspace() as workspace:
        prepared(workspace)
        write_photos(workspace.input / PHOTOS, jobs.PHOTOS)
        with ForkedHost(host, workspace) as forked:
            found.add(kill_copies(forked, jobs.jobs(PHOTOS), KILLS, seconds * SHARES["copies"], seed))
        found.add([kill_servers(host, workspace, seconds * SHARES["servers"], seed)])
        with start(host, workspace) as server:
            at = Served(server, workspace, Client(server.url))
            found.add(cancels(at, CANCELS, seconds * SHARES["cancels"], seed))
    return found


def kill_copies(forked: ForkedHost, kinds: list[jobs.Job], most: int, seconds: float, seed: int = SEED) -> list[Tally]:
    """Kill copies of a started ComfyUI while they work, each job in turn, for about `seconds`."""
    rng, ordinary = random.Random(seed), _ordinary(forked)
    runs = [(job, Tally(f"kill a copy: {job.name}"), *_reference(forked, job)) for job in kinds]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and sum(tally.tried for _, tally, *_ in runs) < most:
        for job, tally, expected, lasts in runs:
            _killed_round(forked, job, tally, expected, lasts, rng)
            if _ordinary(forked) != ordinary:
                tally.findings.append("an ordinary workflow has other bits afterwards")
        say(f"chaos: {sum(tally.tried for _, tally, *_ in runs)} kills of copies")
    return [tally for _, tally, *_ in runs]


def _ordinary(forked: ForkedHost) -> bytes:
    outcome = forked.run(prompts.ordinary())
    _require(outcome)
    (file,) = outcome["outputs"]["6"]["latents"]
    path = forked.workspace.output / file["subfolder"] / file["filename"]
    found = values(path.read_bytes())
    path.unlink()
    return found


def _require(outcome: dict) -> None:
    if outcome["status"] != "success":
        raise DevError(f"A prompt that nobody stopped ended with {outcome['status']}: {outcome['error']}")


def _reference(forked: ForkedHost, job: jobs.Job) -> tuple[dict[str, str], float]:
    """What the job gives in one piece, and the seconds that its second, warm run takes."""
    root = forked.workspace.root
    for _ in range(2):
        job.clear(root)
        outcome = forked.run(job.graph)
        _require(outcome)
    return job.result(root), outcome["seconds"]


def _killed_round(forked: ForkedHost, job: jobs.Job, tally: Tally, expected, lasts: float, rng) -> None:
    """Some kills of one run, each checked; then the run may end, and is compared with one in one piece."""
    root, steps = forked.workspace.root, 0
    job.clear(root)
    for _ in range(IN_A_ROW):
        tally.tried += 1
        killed = forked.run(job.graph, kill_after=rng.uniform(0.0, lasts)) is None
        tally.struck += killed
        tally.findings += jobs.damaged(root)
        if job.name == "training":
            steps = _kept(tally, root, steps)
        if not killed:
            break
    tally.unfinished += len(jobs.unfinished(root))
    outcome = forked.run(job.graph)
    if outcome["status"] != "success":
        tally.findings.append(f"the next start fails: {outcome['error']}")
    elif job.result(root) != expected:
        tally.findings.append("the next start ends with another result than a run in one piece")
    else:
        tally.ended += 1
    for path in jobs.unfinished(root):
        path.unlink()


def _kept(tally: Tally, root, steps: int) -> int:
    try:
        now = jobs.trained_steps(root)
    except ValueError as error:
        tally.findings.append(str(error))
        return steps
    if now < steps:
        tally.findings.append(f"a checkpoint of {steps} steps became one of {now}")
    return now


def kill_servers(host: Host, workspace: Workspace, seconds: float, seed: int = SEED) -> Tally:
    """Kill whole servers while they train; each next one must give an ordinary workflow's bits and go on."""
    rng, tally, ends = random.Random(seed), Tally("kill a server: training"), time.monotonic() + seconds
    graph, first, steps = prompts.training(3 * jobs.STEPS, seed=1), None, 0
    for path in (workspace.output / "aai_training").glob("*"):
        path.unlink()
    while time.monotonic() < ends or not tally.tried:
        with start(host, workspace) as server:
            at = Served(server, workspace, Client(server.url))
            bits = at.latent()
            first = first or bits
            if bits != first:
                tally.findings.append("an ordinary workflow has other bits after a kill")
            tally.tried += 1
            tally.struck += _run_and_kill(at.client, server, graph, rng.uniform(0.2, 6.0))
        tally.findings += jobs.damaged(workspace.root)
        steps = _kept(tally, workspace.root, steps)
    with start(host, workspace) as server:
        run = Client(server.url).run(graph)
    if run.status == "success" and (not steps or steps == 3 * jobs.STEPS or _continued(run.texts)):
        tally.ended += 1
    else:
        tally.findings.append(f"the last start did not go on: {run.status} {run.message} {run.texts}")
    tally.unfinished = len(jobs.unfinished(workspace.root))
    return tally


def _continued(texts: list[str]) -> bool:
    return any("continues from step" in text or "was already complete" in text for text in texts)


def _run_and_kill(client: Client, server: Server, graph: dict, after: float) -> bool:
    timer = threading.Timer(after, os.kill, (server.pid, signal.SIGKILL))
    timer.start()
    try:
        client.run(graph)
    except Exception:  # whatever a vanished server raises
        return True
    finally:
        timer.cancel()
    return False


def cancels(at: Served, most: int, seconds: float, seed: int = SEED) -> list[Tally]:
    """Cancel prompts at random moments; after each, an ordinary workflow must give the same bits."""
    rng, ends, bits = random.Random(seed), time.monotonic() + seconds, at.latent()
    graphs = _cancelled_kinds(at)
    tallies = {name: Tally(f"cancel: {name}") for name in graphs}
    lasts: dict[str, list[float]] = {
        name: [at.run(prompts.varied(graph, rng)).seconds] for name, graph in graphs.items()
    }
    while time.monotonic() < ends and sum(tally.tried for tally in tallies.values()) < most:
        for name, graph in graphs.items():
            tally = tallies[name]
            status, took, message = _cancel(
                at, prompts.varied(graph, rng), rng.uniform(0, statistics.median(lasts[name]))
            )
            tally.tried += 1
            tally.struck += status == "interrupted"
            if status == "success":
                lasts[name].append(took)
            elif status != "interrupted":
                tally.findings.append(f"ended with {status}: {message[:300]}")
            same = at.latent() == bits
            tally.ended += same
            if not same:
                tally.findings.append("an ordinary workflow has other bits afterwards")
            tally.findings += jobs.damaged(at.workspace.root)
    for tally in tallies.values():
        tally.unfinished = len(jobs.unfinished(at.workspace.root))
    return list(tallies.values())


def _cancelled_kinds(at: Served) -> dict[str, dict]:
    write_photos(at.workspace.input / PHOTOS, jobs.PHOTOS)
    return {
        "edit": prompts.example("07 Sound in a scene"),
        "photo source": prompts.example("09 Photo in the style of a sound"),
        "loudness": prompts.example("13 From soft to loud"),
        "training": prompts.training(jobs.STEPS),
        "batch": prompts.batch(PHOTOS, "cancelled-batch"),
    }


def _cancel(at: Served, graph: dict, after: float) -> tuple[str, float, str]:
    """Run a graph and cancel it `after` so many seconds; its status, duration and message."""
    timer = threading.Timer(after, post, (at.server.url, "/interrupt", {}))
    timer.start()
    try:
        run = at.run(graph)
    finally:
        timer.cancel()
        timer.join()
    return run.status, run.seconds, run.message
