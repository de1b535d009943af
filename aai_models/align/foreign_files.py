"""Training files of other projects that people take for encoders: what they are, and which folder is the same model."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from ..errors import CheckpointError

LOOKED_AT = 2**23  # bytes of a file without a directory in which names of tensors are sought
# Part of a file's name -> the folder that is the same model.
LAION = {
    "music_speech_audioset": "laion/larger_clap_general",
    "music_speech": "laion/larger_clap_music_and_speech",
    "music_audioset": "laion/larger_clap_music",
    "fusion": "laion/clap-htsat-fused",
    "630k": "laion/clap-htsat-unfused",
}


def explain_file(path: str | Path) -> CheckpointError | None:
    """Why a file is no CAVT-MAE though it is an audio encoder; None for any other. Nothing in it is run."""
    path = Path(path)
    names = tensor_names(path)
    return _of_clap(path.name, names) or _of_audiotoken(path.name, names)


def is_training_file(path: Path) -> bool:
    """Whether `explain_file` knows a file as one that LAION or Microsoft trained a CLAP with."""
    return _of_clap(path.name, tensor_names(path)) is not None


def _of_clap(name: str, names: bytes) -> CheckpointError | None:
    if b"audio_branch." in names and b"text_branch." in names:
        return CheckpointError(
            f"{name} is LAION's own training file of a CLAP, which has no tokenizer in it",
            f"The folder {_same_model(name, names)} is the same model, as transformers reads it",
            "Download that folder into models/audio_encoders",
        )
    if b"caption_encoder." in names and b"audio_encoder." in names:
        return CheckpointError(
            f"{name} is Microsoft's own training file of a CLAP, which needs a text model that is not in it",
            "The pack reads LAION's CLAP, as a folder of transformers",
            "Download laion/clap-htsat-unfused into models/audio_encoders",
        )
    return None


def _of_audiotoken(name: str, names: bytes) -> CheckpointError | None:
    """The same for AudioToken's files, whose place is another folder."""
    if b"_lora.down" in names and b"to_q_lora" in names:
        return CheckpointError(
            f"{name} is a LoRA, such as AudioToken's",
            "It changes the picture model and hears nothing",
            "Put it into models/loras and use Load LoRA",
        )
    if b"grep_linear" not in names and b"fga.un_models" not in names:
        return None
    return CheckpointError(
        f"{name} is {'BEATs' if b'grep_linear' in names else 'the embedder of AudioToken'}, no CAVT-MAE",
        "AudioToken is read from a folder of models/audio_encoders that holds its BEATs and its embedder",
        "Put both files there",
    )


def _same_model(name: str, names: bytes) -> str:
    known = next((folder for part, folder in LAION.items() if part in name.lower()), None)
    if known:
        return known
    return LAION["fusion"] if b"fusion_model" in names or b"mel_conv2d" in names else LAION["630k"]


def tensor_names(path: Path) -> bytes:
    """The part of a file in which the names of its tensors stand, unread otherwise; empty if it cannot be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inside = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
                if inside is None:
                    return b""
                with archive.open(inside) as file:  # what it unpacks to may have no end
                    return file.read(LOOKED_AT)
        with path.open("rb") as file:
            return file.read(LOOKED_AT)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ):  # what zipfile raises if damaged
        return b""
