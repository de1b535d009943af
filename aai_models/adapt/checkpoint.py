"""A training run as a file: written whole or not at all, and only ever continued with the inputs that began it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import TrainingError
from ..files import read_tensors, write_atomically
from .config import AdaptConfig
from .token import AudioToken
from .trainer import AdapterTrainer

FORMAT = "aai-training-2"


def identity(inputs: dict[str, str]) -> str:
    """The name of a run: a hash of everything that decides its outcome, 24 hexadecimal digits."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]


def run_inputs(config: AdaptConfig, starts: tuple[AudioToken, ...], pictures: str, sigmas: Tensor) -> dict[str, str]:
    """What decides the outcome of a run besides the models, by name: each setting, and hashes of all else.

    `pictures`: a hash of pictures, masks, and which sound each belongs to; `sigmas`: noise levels (T,).
    """
    return {
        **{name: str(value) for name, value in asdict(config).items()},
        "pictures": pictures,
        "sounds": tensors_hash([token.audio_feature for token in starts]),
        "sizes of sounds": str([sorted(token.scales.items()) for token in starts]),
        "bridged sounds": tensors_hash([d for token in starts for _, d in sorted(token.directions.items())]),
        "noise levels": tensors_hash([sigmas]),
    }


def tensors_hash(tensors: list[Tensor], text: str = "") -> str:
    """A hash of shapes, dtypes and values, 16 hexadecimal digits."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous().numpy().tobytes()
        digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode() + values)
    return digest.hexdigest()[:16]


def save(trainer: AdapterTrainer, inputs: dict[str, str], path: Path, report: dict | None = None) -> None:
    """Write the run as it was after its last whole step; raises `TrainingError` if the disk does not take it.

    `report`: the figures of a run that has ended.
    """
    tensors, record = trainer.state()
    record["report"] = report
    header = {"format": FORMAT, "inputs": json.dumps(inputs, sort_keys=True), "record": json.dumps(record)}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(
        path, lambda temporary: save_file(tensors, temporary, metadata=header), TrainingError, "a megabyte"
    )


def read(inputs: dict[str, str], path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and record of a file that `save` wrote, for `AdapterTrainer.restore`.

    Raises `TrainingError` for other inputs, with the difference, and for other files.
    """
    try:
        header, tensors = read_tensors(path)
        if header.get("format") != FORMAT:
            raise ValueError("it has no training header")
        before, record = json.loads(header["inputs"]), json.loads(header["record"])
        if not isinstance(before, dict) or not _is_record(record):
            raise ValueError("its record is damaged")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    _require_same(before, inputs, path.name)
    return tensors, record


def _is_record(record) -> bool:
    """Whether a run's record has what its result is made of; what it goes on from, `AdapterTrainer.restore` checks."""
    if not isinstance(record, dict) or not isinstance(record.get("best"), dict):
        return False
    curves = record.get("losses"), *zip(*record.get("held_out_losses", ()), strict=True)
    numbers = all(isinstance(value, (int, float)) for curve in curves for value in curve)
    report = record.get("report")
    return (
        numbers
        and isinstance(record.get("best_step"), int)
        and all(len(pair) == 2 for pair in record["held_out_losses"])
        and (report is None or isinstance(report, dict))
    )


def _unreadable(path: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"Training cannot be continued from {path.name} ({error})",
        "It must be a file that Train Audio Token wrote into output/aai_training",
        "Choose another file, or remove it to start again from step 0",
    )


def _require_same(before: dict[str, str], now: dict[str, str], name: str) -> None:
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)} and is {now.get(key)}" for key in changed[:6])
        raise TrainingError(
            f"{name} began with other inputs: {shown}",
            "A training can only be continued with the inputs that it began with",
            "Restore these inputs, or clear `resume_from` to start again from step 0",
        )
