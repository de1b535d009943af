"""Audio tokens as files among the host's embeddings."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch

from ....aai_models.adapt import formats
from ....aai_models.adapt.token import AudioToken
from ....aai_models.errors import TokenError
from ..base import folders
from ..base.prompt_words import check_tokens

IF_EXISTS = ("number", "replace", "stop")
SUFFIX = ".safetensors"


def save(token: AudioToken, name: str, if_exists: str) -> str:
    """Save a token under `name` in models/embeddings and return the name that it got.

    Where the name is taken: `number` finds the next free one, unless a file under way there already holds the same
    vectors; `replace` overwrites it; `stop` raises `TokenError`.
    """
    if if_exists not in IF_EXISTS:
        raise TokenError(f"if_exists is {if_exists!r}", f"It is one of {', '.join(IF_EXISTS)}", "Choose one of them")
    plain = folders.require_name(name.removesuffix(SUFFIX))
    folder = folders.embeddings_folder()
    path = folder / f"{plain}{SUFFIX}"
    if if_exists == "stop" and path.exists() and not _same(token, path):
        raise TokenError(
            f"There is already an embedding named {plain}",
            "`if_exists` is set to stop",
            "Choose another name, or set `if_exists` to number or replace",
        )
    if if_exists == "number":
        path = _free_path(token, folder, plain)
    if not (path.exists() and _same(token, path)):
        token.save(path)
    return path.stem


def _free_path(token: AudioToken, folder: Path, name: str) -> Path:
    path, number = folder / f"{name}{SUFFIX}", 2
    while path.exists() and not _same(token, path):
        path, number = folder / f"{name}-{number}{SUFFIX}", number + 1
    return path


def _same(token: AudioToken, path: Path) -> bool:
    """Whether the file holds the vectors of `token`, bit for bit."""
    try:
        there = AudioToken.load(path).vectors
    except TokenError:
        return False
    mine = token.vectors
    return there.keys() == mine.keys() and all(torch.equal(there[key], mine[key].cpu()) for key in mine)


def export(token: AudioToken, name: str, form: str) -> list[str]:
    """Write `token` for other programs into output/aai_tokens and return the files' names."""
    if form == "none":
        return []
    return [path.name for path in formats.export(token, folders.partial_tokens_folder(), name, form)]


def names() -> list[str]:
    """Files of models/embeddings."""
    return folder_paths.get_filename_list("embeddings")


def problem(name: str | None) -> str | None:
    """Why an embedding cannot be loaded, as one or two sentences; None if nothing speaks against it."""
    if name not in names():
        return (
            f"There is no embedding {name!r} in models/embeddings. Put the file there and press R, or choose another."
        )
    return None


def load(name: str, clip=None) -> AudioToken:
    """Read an embedding; `clip`, if given, must take its width. Raises `TokenError`."""
    found = problem(name)
    if found:
        raise TokenError(found, "The name is one of the list")
    token = formats.load_any(folder_paths.get_full_path("embeddings", name))
    if clip is not None:
        check_tokens(clip, {1: token})
    return token
