"""A training on disk: `last.run` to go on from, `best` and `final` .safetensors to use. Each is written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...errors import TrainingError
from ...files import read_tensors, write_atomically
from ..config import AlignConfig, differences
from ..momentum import Student, Teacher

FORMAT = "aai-align-1"
LAST, BEST, FINAL, LOG = "last.run", "best.safetensors", "final.safetensors", "log.jsonl"


def save_last(
    path: Path, student: Student, teacher: Teacher, optimizer: torch.optim.Optimizer, config: AlignConfig, record: dict
) -> None:
    """Everything that the next step depends on; raises `TrainingError` if the disk does not take it."""
    tensors: dict[str, Tensor] = {f"student.{name}": parameter for name, parameter in student.trained().items()}
    tensors |= {f"teacher.{name}": average for name, (average, _) in teacher.averages.items()}
    for name, parameter in student.trained().items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}:{key}"] = torch.as_tensor(value)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "config": config.to_json(), "record": json.dumps(record)}
    write_atomically(path, lambda p: save_file(tensors, p, metadata=header), TrainingError, "the checkpoint")


def save_encoder(path: Path, student: Student, config: AlignConfig, about: dict[str, str]) -> None:
    """The towers under CAV-MAE's names, with the config in the header: what every other part of the pack loads."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.model.state_dict().items()}
    if student.head is not None:
        tensors |= {f"picture_head.{n}": t.detach().cpu().contiguous() for n, t in student.head.state_dict().items()}
    variant = "cavt-mae" if student.model.has_images else "cavt-mae-audio"
    header = {"variant": variant, "dtype": "fp32", "config": config.to_json(), **about}
    write_atomically(path, lambda p: save_file(tensors, p, metadata=header), TrainingError, "the encoder")


def restore(
    path: Path,
    student: Student,
    teacher: Teacher,
    optimizer: torch.optim.Optimizer,
    config: AlignConfig,
    identity: dict[str, str],
) -> dict:
    """Continue from `last.run` -> its record. Raises `TrainingError` with the difference if it began otherwise."""
    header, tensors = _read(path)
    before, record = AlignConfig.from_json(header["config"]), json.loads(header["record"])
    changed = differences(before, config)
    changed += [
        f"{name} was {record['identity'].get(name)} and is {value}"
        for name, value in identity.items()
        if record["identity"].get(name) != value
    ]
    if changed:
        raise TrainingError(
            f"{path} began with other settings: {', '.join(changed[:6])}",
            "A training can only be continued with the settings that it began with",
            "Restore these settings, or name another folder to start again",
        )
    with torch.no_grad():
        for name, parameter in student.trained().items():
            parameter.copy_(tensors[f"student.{name}"])
        for name, (average, _) in teacher.averages.items():
            average.copy_(tensors[f"teacher.{name}"])
    _restore_optimizer(optimizer, student, tensors)
    return record


def _restore_optimizer(optimizer: torch.optim.Optimizer, student: Student, tensors: dict[str, Tensor]) -> None:
    for name, parameter in student.trained().items():
        prefix = f"optimizer.{name}:"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        header, tensors = read_tensors(path)
        if header.get("format") != FORMAT:
            raise ValueError("it has no training header")
        return header, tensors
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(
            f"Training cannot be continued from {path} ({error})",
            f"It must be a {LAST} that the command `train` wrote",
            "Remove it, or name another folder, to start again",
        ) from None


def read_head(path: Path) -> dict[str, Tensor]:
    """The picture head's tensors of an encoder file; none if it was trained without one."""
    prefix = "picture_head."
    return {name.removeprefix(prefix): tensor for name, tensor in read_tensors(path, prefix)[1].items()}


def trim_log(path: Path, step: int) -> None:
    """Forget what was logged after a step that training goes back to."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line).get("step", 0) <= step:
                kept.append(line)
        except ValueError:
            continue  # cut off by a kill
    text = "".join(f"{line}\n" for line in kept)
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"), TrainingError, "the log")
