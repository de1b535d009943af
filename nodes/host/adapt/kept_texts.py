"""Features of texts, kept on the disk: a list is encoded once by each text side, whatever CLIP is connected."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import folder_paths
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ....aai_models.align.aligned_text import AlignedText
from ....aai_models.align.texts import PROMPTS, class_texts
from ....aai_models.errors import TokenError
from ....aai_models.files import read_tensors, write_atomically

log = logging.getLogger(__name__)
FORMAT = "aai-label-features-1"


def kept_features(text: AlignedText, sentences: tuple[str, ...]) -> Tensor:
    """Unit vectors (N, D) of labels, each in the sentence that the encoder was trained with.

    Read from the cache, or computed and kept under a hash of list, templates and text side. Shows progress, can be cancelled
    between batches; a disk that takes no file is no failure.
    """
    path = _path(text, sentences)
    found = _read(path, len(sentences), text.dim)
    if found is None:
        found = class_texts(text, list(sentences), text.prompt)
        header, tensors = {"format": FORMAT}, {"features": found.contiguous()}
        try:
            write_atomically(
                path, lambda temporary: save_file(tensors, temporary, metadata=header), TokenError, "space"
            )
        except TokenError as error:
            log.warning("%s The labels are used now, and encoded again the next time.", error)
    return found


def _path(text: AlignedText, sentences: tuple[str, ...]) -> Path:
    known = json.dumps([sentences, PROMPTS[text.prompt], text.digest])
    name = f"{hashlib.sha256(known.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.safetensors"
    return Path(folder_paths.get_user_directory()) / "aai_labels" / name


def _read(path: Path, count: int, dim: int) -> Tensor | None:
    """What `kept_features` wrote; None for anything else."""
    if not path.is_file():
        return None
    try:
        header, tensors = read_tensors(path)
        features = tensors["features"]
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    fits = header.get("format") == FORMAT and features.shape == (count, dim) and bool(features.isfinite().all())
    return features if fits else None
