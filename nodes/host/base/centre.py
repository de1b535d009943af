"""The mean of an encoder's sounds: of its file, or once from a neutral set that the pack synthesises."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import folder_paths
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ....aai_models.audio.neutral import RATE, neutral_sounds
from ....aai_models.errors import CheckpointError
from ....aai_models.files import read_tensors, write_atomically
from .digest import identify

log = logging.getLogger(__name__)
FORMAT = "aai-neutral-centre-1"


def centre_of(encoder) -> Tensor:
    """The mean unit feature of sounds (D,): what `align centre` wrote, else of `neutral_sounds`, kept for the next time.

    `encoder` as the nodes have it. Shows progress, can be cancelled between sounds.
    """
    if encoder.centre is not None:
        return encoder.centre
    digest = identify(encoder.patcher, encoder.name).digest
    name = hashlib.sha256(f"{digest} {FORMAT}".encode()).hexdigest()[:32]
    path = Path(folder_paths.get_user_directory()) / "aai_centres" / f"{name}.safetensors"
    found = _read(path)
    if found is None:
        found = encoder.encode(neutral_sounds(), RATE).float().mean(0)
        tensors, header = {"centre": found.contiguous()}, {"format": FORMAT}
        try:
            write_atomically(
                path, lambda temporary: save_file(tensors, temporary, metadata=header), CheckpointError, "4 kB"
            )
        except CheckpointError as error:
            log.warning("%s The mean of sounds is used now, and computed again the next time.", error)
    return found


def _read(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        header, tensors = read_tensors(path)
        return tensors["centre"] if header.get("format") == FORMAT else None
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
