"""A training run as a file: written whole or not at all, and only ever continued with the inputs that began it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import TrainingError
from ..files import write_atomically
from .trainer import AdapterTrainer

FORMAT = "aai-training-1"


def identity(inputs: dict[str, str]) -> str:
    """The name of a run: a hash of everything that decides its outcome, 24 hexadecimal digits."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]


def save(trainer: AdapterTrainer, inputs: dict[str, str], path: Path) -> None:
    """Write the run as it was after its last whole step; raises `TrainingError` if the disk does not take it."""
    tensors, record = trainer.state()
    header = {"format": FORMAT, "inputs": json.dumps(inputs, sort_keys=True), "record": json.dumps(record)}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(
        path, lambda temporary: save_file(tensors, temporary, metadata=header), TrainingError, "a megabyte"
    )


def restore(trainer: AdapterTrainer, inputs: dict[str, str], path: Path) -> None:
    """Continue the run of a file. Raises `TrainingError` for other inputs, with the difference, and for other files."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if header.get("format") != FORMAT:
            raise ValueError("it lacks the header of a training")
        before, record = json.loads(header["inputs"]), json.loads(header["record"])
        _require_same(before, inputs, path.name)
        trainer.restore(tensors, record)
    except TrainingError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise TrainingError(
            f"{path.name} is not a training that can be continued ({error})",
            "It is a file that Train Audio Token wrote into output/aai_training",
            "Remove it, or choose another; training then begins anew",
        ) from None


def _require_same(before: dict[str, str], now: dict[str, str], name: str) -> None:
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)} and is {now.get(key)}" for key in changed[:6])
        raise TrainingError(
            f"{name} began with other inputs: {shown}",
            "A training goes on only with what it began with",
            "Restore these inputs, or clear `resume_from` to begin anew",
        )
