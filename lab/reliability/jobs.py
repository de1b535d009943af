"""What is killed: jobs that write files, what each of them leaves, and whether files are whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open

from . import prompts

OURS = ("output", "models/embeddings", "user/aai_bridges", "user/aai_libraries")  # folders that the pack writes to
STEPS = 60  # of the training: checkpoints after 25 and 50, so a kill may come before, between and after
SAVES, PHOTOS = 12, 12


@dataclass(frozen=True)
class Job:
    """A graph that writes files, and where."""

    name: str
    graph: dict
    products: tuple[str, ...]  # patterns of what it writes, relative to the workspace

    def written(self, root: Path) -> list[Path]:
        return sorted(path for pattern in self.products for path in root.glob(pattern))

    def clear(self, root: Path) -> None:
        """Remove what the job wrote, so that it begins anew."""
        for path in self.written(root):
            path.unlink()

    def result(self, root: Path) -> dict[str, str]:
        """File -> a hash of what it says; two complete runs give the same."""
        return {str(path.relative_to(root)): content(path) for path in self.written(root) if not is_unfinished(path)}


def jobs(photos: str) -> list[Job]:
    """One of each kind; `photos` is a folder of pictures below the input folder."""
    trained = ("output/aai_training/*", "output/aai_tokens/*", "models/embeddings/*trained*")
    bridge = prompts.bridged("cat", vocabulary=1500) | {"5": prompts.saved(["4", 0], "bridged")}
    return [
        Job("training", prompts.training(STEPS), trained),
        Job("saving", prompts.saves(SAVES), ("models/embeddings/*saved-*",)),
        Job("batch", prompts.batch(photos, "chaos-batch"), ("output/chaos-batch/*",)),
        Job("library", prompts.finds(photos), ("user/aai_libraries/*",)),
        Job("bridge", bridge, ("user/aai_bridges/*1500*", "models/embeddings/*bridged*")),
    ]


def is_unfinished(path: Path) -> bool:
    """Whether a name says that its file was being written."""
    return path.name.startswith(".") and path.suffix == ".partial"


def content(path: Path) -> str:
    """A hash of tensors, pixels or JSON, whatever a file's header says of times. Raises `ValueError` for a damaged one."""
    digest = hashlib.sha256()
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                for name in sorted(file.keys()):
                    digest.update(name.encode() + file.get_tensor(name).tobytes())
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                digest.update(np.asarray(picture).tobytes())
        elif path.suffix == ".json":
            digest.update(repr(sorted(json.loads(path.read_bytes())["pictures"])).encode())
    except (OSError, SafetensorError, SyntaxError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    return digest.hexdigest()


def damaged(root: Path) -> list[str]:
    """Files under their final names that cannot be read to their end."""
    found = []
    for path in ours(root):
        if not is_unfinished(path):
            try:
                content(path)
            except ValueError as error:
                found.append(f"{path.relative_to(root)} is half-written: {error}")
    return found


def unfinished(root: Path) -> list[Path]:
    return [path for path in ours(root) if is_unfinished(path)]


def ours(root: Path) -> Iterable[Path]:
    return (path for folder in OURS for path in sorted((root / folder).rglob("*")) if path.is_file())


def trained_steps(root: Path) -> int:
    """Steps in the checkpoint of the training, 0 without one; its best word must be there and finite."""
    (path,) = [*(root / "output" / "aai_training").glob("[!.]*.safetensors")] or [None]
    if path is None:
        return 0
    with safe_open(path, framework="np") as file:
        record = json.loads(file.metadata()["record"])
        best = [file.get_tensor(name) for name in file.keys() if name.startswith("best.")]  # noqa: SIM118 (no dict)
    if not best or not all(np.isfinite(rows).all() for rows in best):
        raise ValueError(f"{path.name} has no best word")
    return len(record["losses"])
