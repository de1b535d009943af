"""The mean of an encoder's sounds: of its file, or once from a neutral set that the pack synthesises."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import folder_paths
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ....aai_models.errors import CheckpointError
from ....aai_models.files import read_tensors, write_atomically
from ....pocket.world.names import THINGS
from ....pocket.world.sounds import RATE, mixture, synthesise
from ..base.digest import identify

log = logging.getLogger(__name__)
FORMAT = "aai-neutral-centre-1"
SEED = 7_000_000
SECONDS = 1.0  # of each sound


def neutral_sounds() -> Tensor:
    """Sounds of 24 kinds alone and 16 pairs of them at once, a second each: (40, 1, 16000) float32, 16 kHz."""
    waves = [synthesise(thing, 0.6, SEED + number, SECONDS) for number, thing in enumerate(THINGS)]
    pairs = [(THINGS[n], THINGS[(5 * n + 7) % len(THINGS)]) for n in range(16)]
    waves += [mixture(*pair, 0.6, SEED + 100 + 2 * n, SECONDS) for n, pair in enumerate(pairs)]
    return torch.stack([torch.from_numpy(wave) for wave in waves])[:, None]


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
