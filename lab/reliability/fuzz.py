"""Damaged files and odd texts in a process of their own; wrong values in workflows on a real server."""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ...aai_models import errors
from ...devtools.hosts import ROOT, Host
from ...devtools.report import DevError, say
from ...devtools.server import DIES_WITH_PARENT
from . import measure, mutate, prompts
from .serving import Served, served

LONGEST = 10.0  # seconds for one input
OF_WORKFLOWS = 0.04  # share of the inputs that are workflows
COLUMNS = ["input", "count", "read", "refused with a sentence", "faults"]
# Examples that take a moment, and in whose places values are put.
EXAMPLES = ("03 Look at sound", "06 Word without training", "07 Sound in a scene", "08 Breathing with the sound")
FOLDERS = ("output", "input", "models", "user", "temp")  # where a workflow may write


@dataclass
class Fuzz:
    """Outcomes by kind of input, and what is wrong."""

    outcomes: dict[str, Counter] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str, why: str = "") -> None:
        self.outcomes.setdefault(kind, Counter())[outcome] += 1
        if outcome == "fault":
            self.findings.append(why)

    def rows(self) -> list[list[str]]:
        return [
            [kind, str(sum(n.values())), *(str(n[outcome]) for outcome in ("read", "refused", "fault"))]
            for kind, n in sorted(self.outcomes.items())
        ]


def fuzz(host: Host, count: int, seed: int) -> Fuzz:
    """`count` inputs: files and texts, and for a share of them workflows with wrong values."""
    found, of_workflows = Fuzz(), int(count * OF_WORKFLOWS)
    fuzz_files(found, count - of_workflows, seed)
    with tempfile.TemporaryDirectory() as outside, served(host, Path(outside) / "inside") as at:
        fuzz_workflows(found, at, of_workflows, seed)
        found.findings += [f"written outside: {path.name}" for path in Path(outside).iterdir() if path.name != "inside"]
    return found


def fuzz_files(found: Fuzz, count: int, seed: int, first: int = 0) -> None:
    """Files and texts number `first` and so on; a process that ends or hangs is replaced and goes on behind its input."""
    with tempfile.TemporaryDirectory() as folder:
        number, last = first, first + count
        while number < last:
            number = _Child(Path(folder), seed, number, last - number).follow(found)
        if any(path.name == "CODE_WAS_RUN" for path in Path(folder).rglob("*")):
            found.findings.append("the code in a file was run")


class _Child:
    """One process of `fuzz_child.py`."""

    def __init__(self, folder: Path, seed: int, first: int, count: int):
        self._first, self._lines = first, queue.Queue()
        command = [sys.executable, "-m", "lab.reliability.fuzz_child", str(folder), *map(str, (seed, first, count))]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self._errors, text=True, **DIES_WITH_PARENT
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def follow(self, found: Fuzz) -> int:
        """Note what it says until its end; the number to go on with."""
        next_number, open_one = self._first, None
        while True:
            try:
                line = self._lines.get(timeout=LONGEST if open_one else 120.0)
            except queue.Empty:
                return self._stop(found, open_one, f"takes longer than {LONGEST:g} s", next_number)
            if line is None:
                if self._process.wait() == 0:
                    return next_number
                return self._stop(found, open_one, f"ends the process ({self._process.returncode})", next_number)
            event = json.loads(line)
            if "begin" in event:
                open_one = event
                continue
            next_number, open_one = event["end"] + 1, None
            found.add(event["kind"], event["outcome"], f"{event['kind']} {event['end']}: {event.get('why', '')}")
            if next_number % 1000 == 0:
                say(f"fuzz: {next_number} inputs, {len(found.findings)} faults")

    def _stop(self, found: Fuzz, open_one: dict | None, why: str, number: int) -> int:
        self._process.kill()
        self._process.wait()
        if open_one is None:
            self._errors.seek(0)
            raise DevError(f"The process that reads the inputs {why}:\n{self._errors.read()[-2000:]}")
        found.add(open_one["kind"], "fault", f"{open_one['kind']} {open_one['begin']}: {why}")
        return open_one["begin"] + 1


def fuzz_workflows(found: Fuzz, at: Served, count: int, seed: int) -> None:
    """Small examples in which one to three values are others; the server must refuse, explain, or do it."""
    rng, before = random.Random(seed), measure.files(at.workspace.root)
    graphs = [prompts.example(name) for name in EXAMPLES]
    for number in range(count):
        graph, told = prompts.varied(rng.choice(graphs), rng), []
        for _ in range(rng.choice((1, 1, 2, 3))):
            told.append(_put_odd(graph, rng))
        outcome, why = _tried(at, graph)
        found.add("workflows", outcome, f"workflows {number} ({', '.join(told)}): {why}")
        if not at.server.alive:
            raise DevError(f"The server ended at workflow {number}: {told}\n{at.server.tail()}")
    came = measure.files(at.workspace.root) - before
    found.findings += [f"written elsewhere: {name}" for name in sorted(came) if not name.startswith(FOLDERS)]


def _put_odd(graph: dict, rng: random.Random) -> str:
    """Change one value of one of our nodes; which and to what."""
    ours = sorted(key for key, node in graph.items() if node["class_type"].startswith("AAI_") and node["inputs"])
    node = graph[rng.choice(ours)]
    name = rng.choice(sorted(node["inputs"]))
    value = node["inputs"][name]
    if isinstance(
        value, list
    ):  # a wire stays one: a value in its place no editor writes, and the host's own nodes take none
        odd = rng.choice(
            [[rng.choice(sorted(graph)), 0], [value[0], 99], [value[0], -1], ["missing", 0], [], [value[0]]]
        )
    else:
        odd = mutate.odd_text(rng) if isinstance(value, str) and rng.random() < 0.5 else mutate.odd_json(value, rng)
    node["inputs"][name] = odd
    return f"{node['class_type']}.{name} = {str(odd)[:80]!r}"


def _tried(at: Served, graph: dict) -> tuple[str, str]:
    """The outcome of a workflow, and why it is a fault."""
    try:
        run = at.run(graph, timeout=6 * LONGEST)
    except TimeoutError:
        return "fault", f"takes longer than {6 * LONGEST:g} s"
    if run.status == "success":
        return "read", ""
    if run.status == "rejected":
        return "refused", ""
    kind = run.error.get("exception_type", "")
    of_ours = run.error.get("node_type", "").startswith("AAI_")
    # Our errors are named without a module, so that what a person reads begins with the name.
    if hasattr(errors, kind) or not of_ours:
        return ("refused", "") if run.message else ("fault", f"{kind} without a word")
    return "fault", f"{kind}: {run.message[:200]}\n{''.join(run.error.get('traceback', [])[-3:])}"
