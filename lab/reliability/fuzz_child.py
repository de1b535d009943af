"""A process that reads damaged inputs one after the other and says of each what came of it.

Started by `fuzz.py` as `python -m lab.reliability.fuzz_child FOLDER SEED FIRST COUNT`. A line before each input and one
after it go to standard output: who reads them knows which one ended or stopped this process.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from ..__main__ import load_pack
from . import mutate

MEMORY = 6 * 2**30  # bytes that an input may make this process take
# What reading a file has no business with. Names of Python's audit events.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "ctypes.dlopen")
CHANGES = (
    "open",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "shutil.rmtree",
)


class Watch:
    """Notes what a reader does beside reading: runs programs, connects, writes outside its folder."""

    def __init__(self, folder: Path):
        self._folder, self.seen, self._is_on = str(folder.resolve()), [], False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments) -> None:
        if not self._is_on:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {arguments[:1]!r}")
        elif event in CHANGES and self._changes(event, arguments):
            self.seen.append(f"{event} outside the folder: {arguments[:2]!r}")

    def _changes(self, event: str, arguments) -> bool:
        path, *more = arguments
        if event == "open" and not (
            set(str(more[0] or "")) & set("wax+") or (more[1] or 0) & (os.O_WRONLY | os.O_RDWR)
        ):
            return False
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return not os.path.realpath(os.fsdecode(path)).startswith(self._folder)

    @contextlib.contextmanager
    def on(self):
        self.seen, self._is_on = [], True
        try:
            yield
        finally:
            self._is_on = False


def input_of(number: int, seed: int, corpus: Path, scratch: Path, targets: dict) -> tuple[str, object]:
    """The target and the input of a number: a damaged file of the corpus in the folder `scratch`, or a text."""
    rng = random.Random(seed * 1_000_003 + number)
    kind = sorted(targets)[number % len(targets)]
    if kind == "texts":
        return kind, mutate.odd_text(rng)
    files = sorted(path for path in (corpus / kind).iterdir() if path.is_file())
    path, other = rng.choice(files), rng.choice(files)
    data = path.read_bytes()
    if path.suffix == ".safetensors" and rng.random() < 0.6:
        data = mutate.odd_safetensors(data, rng)
    elif path.suffix == ".json" and rng.random() < 0.7:
        data = json.dumps(mutate.odd_json(json.loads(data), rng)).encode("utf-8", "surrogatepass")
    else:
        data = mutate.damaged(data, rng, other.read_bytes())
    suffix = other.suffix if rng.random() < 0.1 else path.suffix
    target = scratch / ("manifest.json" if kind == "manifests" else f"input{suffix}")
    target.write_bytes(data)
    return kind, target


def main() -> int:
    folder, (seed, first, count) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    load_pack()
    made = importlib.import_module("aai_pack.lab.reliability.corpus")
    fuzz_targets = importlib.import_module("aai_pack.lab.reliability.fuzz_targets")

    warnings.simplefilter("ignore")
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    corpus, scratch = folder / "corpus", folder / "scratch"
    if not corpus.exists():
        made.write(corpus)
    (scratch / "temp").mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch / "temp")  # PyTorch unpacks its oldest files there
    os.chdir(scratch)
    watch = Watch(scratch)
    for number in range(first, first + count):
        for path in scratch.iterdir():
            if path.is_file():
                path.unlink()
        kind, given = input_of(number, seed, corpus, scratch, fuzz_targets.TARGETS)
        print(json.dumps({"begin": number, "kind": kind}), flush=True)
        print(
            json.dumps({"end": number, "kind": kind, **_outcome(watch, *fuzz_targets.TARGETS[kind], given)}), flush=True
        )
    return 0


def _outcome(watch: Watch, read, allowed: tuple, given) -> dict:
    """What came of one input: "read", "refused" by an error of ours, or "fault" with its reason."""
    outcome, errors = "read", io.StringIO()
    with watch.on(), contextlib.redirect_stderr(errors):
        try:
            read(given)
        except allowed as error:
            outcome = "refused"
            if not str(error).strip():
                return {"outcome": "fault", "why": f"{type(error).__name__} without a word"}
        except BaseException:
            return {"outcome": "fault", "why": traceback.format_exc(limit=-4)}
    if watch.seen:
        return {"outcome": "fault", "why": "; ".join(watch.seen)}
    return {"outcome": outcome}


if __name__ == "__main__":
    sys.exit(main())
