"""The mean feature of many sounds, kept in the header of an encoder's file, or in a file of its own in an encoder's folder.

Features of sounds and of words lie around different means, although both are unit vectors of one space. A bridge
from one to the other needs both means; that of words belongs to the text encoder, that of sounds to the audio encoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..audio.decode import SUFFIXES, decode_audio
from ..audio.errors import AudioError
from ..audio.heard import require_heard
from ..errors import CheckpointError
from ..files import read_header, read_tensors, write_atomically

HEADER = "aai.audio_centre"
IN_FOLDER = "aai_centre.safetensors"  # beside the weights of an encoder of `transformers`
MIN_SOUNDS = 32
SECONDS = 10.24  # of each recording


def read_centre(path: str | Path) -> Tensor | None:
    """The mean unit feature (D,) that `write_centre` kept with an encoder's file or folder, None where there is none."""
    path = Path(path)
    path = path / IN_FOLDER if path.is_dir() else path
    if path.suffix != ".safetensors":
        return None
    try:
        text = read_header(path).get(HEADER)
        values = torch.tensor(json.loads(text), dtype=torch.float32) if text else None
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError):  # too deep for JSON is a RuntimeError too
        return None
    return values if values is not None and values.ndim == 1 and bool(values.isfinite().all()) else None


def write_centre(path: str | Path, centre: Tensor) -> None:
    """Keep `centre` (D,) with an encoder, atomically; raises `CheckpointError`.

    In the header of a .safetensors file, or in a file of its own in a folder, whose published files stay as they are.
    """
    path, values = Path(path), json.dumps([round(float(value), 8) for value in centre])
    if path.is_dir():
        tensors = {"audio_centre": centre.detach().float().cpu().contiguous()}
        write = partial(save_file, tensors, metadata={HEADER: values})
        write_atomically(path / IN_FOLDER, write, CheckpointError, "16 kB")
        return
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path.name} has no header to write into",
            "The mean is written into the header of a .safetensors file",
            "Convert the encoder first: python -m aai_models.align convert",
        )
    try:
        header, tensors = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read ({error})",
            "It must be an encoder's .safetensors file",
            "Download the file again",
        ) from None
    header[HEADER] = values
    write_atomically(
        path, lambda temporary: save_file(tensors, temporary, metadata=header), CheckpointError, "the encoder"
    )


def mean_feature(
    folder: str | Path,
    encode: Callable[[Tensor, int], Tensor],
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tensor, int]:
    """(mean, count) of the unit features of the recordings under `folder`: (D,).

    Files that are no sound, or silent, are left out. `encode` maps (1, C, T) and a rate (Hz) to (1, D). Raises
    `CheckpointError` for fewer than 32 sounds.
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    features = []
    for number, path in enumerate(paths, start=1):
        try:
            sound, rate = decode_audio(path, duration=SECONDS)
            require_heard(sound[None], rate)  # silence would bias the mean
            features.append(encode(sound[None], rate)[0].float())
        except AudioError:
            pass
        on_file(number, len(paths))
    if len(features) < MIN_SOUNDS:
        raise CheckpointError(
            f"{folder} holds {len(features)} readable sounds",
            f"A mean needs at least {MIN_SOUNDS} different sounds",
            "Choose a folder with more recordings, of as many kinds as you have",
        )
    return torch.stack(features).mean(0), len(features)
