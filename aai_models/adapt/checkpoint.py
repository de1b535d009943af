"""A training run as a file: written whole or not at all, and only ever continued with the inputs that began it.

An encoder rounds otherwise on another device, thread count or version of PyTorch. A run whose sounds differ by no more than
that is the same run: its file is found, and goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import TrainingError
from ..files import read_tensors, write_atomically
from .config import AdaptConfig
from .token import AudioToken, audio_features
from .trainer import AdapterTrainer

FORMAT = "aai-training-2"
HEARD = {"sounds", "sizes of sounds", "bridged sounds"}  # inputs that are made of what an encoder heard
SOUNDS = "sounds"  # the tensor of them, (K, D)
ALIKE = 1e-4  # of 1 - cosine: bf16 rounds by less, and sounds that a person tells apart differ by a hundred times that
DAMAGED = (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


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
    tensors |= {SOUNDS: audio_features(trainer.starts)}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(
        path, lambda temporary: save_file(tensors, temporary, metadata=header), TrainingError, "a megabyte"
    )


def find(inputs: dict[str, str], sounds: Tensor, folder: Path) -> Path | None:
    """The file of the run with these inputs and sounds (K, D): under its own name, or that of one which differs by rounding."""
    path = folder / f"{identity(inputs)}.safetensors"
    if path.is_file():
        return path
    for other in sorted(folder.glob("*.safetensors")):
        with contextlib.suppress(*DAMAGED):
            header, tensors = read_tensors(other, SOUNDS)
            if not _changed(json.loads(header["inputs"]), inputs, tensors.get(SOUNDS), sounds):
                return other
    return None


def read(inputs: dict[str, str], path: Path, sounds: Tensor | None = None) -> tuple[dict[str, Tensor], dict]:
    """Tensors and record of a file that `save` wrote, for `AdapterTrainer.restore`.

    `sounds` (K, D): the run's, as unit vectors; without them a rounding counts as another input.
    Raises `TrainingError` for other inputs, with the difference, and for other files.
    """
    try:
        header, tensors = read_tensors(path)
        if header.get("format") != FORMAT:
            raise ValueError("it has no training header")
        before, record = json.loads(header["inputs"]), json.loads(header["record"])
        if not isinstance(before, dict) or not _is_record(record):
            raise ValueError("its record is damaged")
    except DAMAGED as error:
        raise _unreadable(path, error) from None
    if changed := _changed(before, inputs, tensors.get(SOUNDS), sounds):
        raise _other_run(before, inputs, changed, path.name)
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


def _changed(before: dict[str, str], now: dict[str, str], heard: Tensor | None, sounds: Tensor | None) -> list[str]:
    """Names of the inputs that differ; none where that is a rounding of the sounds, `heard` then and `sounds` now."""
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    return [] if set(changed) <= HEARD and _alike(heard, sounds) else changed


def _alike(before: Tensor | None, now: Tensor | None) -> bool:
    """Whether unit vectors (K, D) are the same but for rounding."""
    if before is None or now is None or before.shape != now.shape:
        return False
    likeness = torch.nn.functional.cosine_similarity(before.float(), now.float().cpu(), dim=-1)
    return bool((1 - likeness < ALIKE).all())


def _other_run(before: dict[str, str], now: dict[str, str], changed: list[str], name: str) -> TrainingError:
    shown = ", ".join(f"{key} was {before.get(key)} and is {now.get(key)}" for key in changed[:6])
    return TrainingError(
        f"{name} began with other inputs: {shown}",
        "A training can only be continued with the inputs that it began with",
        "Restore these inputs, or clear `resume_from` to start again from step 0",
    )
