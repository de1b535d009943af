"""Audio tokens as files among the host's embeddings."""

from __future__ import annotations

import os
import re
from pathlib import Path

import folder_paths
import torch

from ....aai_models.adapt import formats
from ....aai_models.adapt.token import AudioToken
from ....aai_models.errors import TokenError
from ..base import folders
from ..base.messages import tell
from ..base.prompt_words import check_tokens
from . import unfinished

IF_EXISTS = ("number", "replace", "stop")
SUFFIX = ".safetensors"
HOST_SUFFIXES = (".safetensors", ".pt", ".bin")  # in the order in which the host looks for them
MENTION = re.compile(r"(?<!\S)embedding:(\S+)")


def save(token: AudioToken, name: str, if_exists: str) -> str:
    """Save a token under `name` in models/embeddings and return the name that it got.

    Where the name is taken: `number` finds the next free one, unless a file under way there already holds the same
    vectors; `replace` overwrites it; `stop` raises `TokenError`.
    """
    if if_exists not in IF_EXISTS:
        raise TokenError(
            f"if_exists is {if_exists!r}", f"It must be one of {', '.join(IF_EXISTS)}", "Choose one of them"
        )
    plain = folders.require_name(name.removesuffix(SUFFIX))
    folder = folders.embeddings_folder()
    path = folder / f"{plain}{SUFFIX}"
    if if_exists == "stop" and _others(token, plain, path):
        raise TokenError(
            f"There is already an embedding named {plain} ({', '.join(_others(token, plain, path))})",
            f"`if_exists` is set to stop, and embedding:{plain} in a prompt would change",
            "Choose another name, or set `if_exists` to number or replace",
        )
    if if_exists == "number":
        path = _free_path(token, folder, plain)
    if not (path.exists() and _same(token, path)):
        token.save(path)
    shadows = [other for other in _others(token, plain, path) if if_exists == "replace"]
    if shadows:
        tell(f"embedding:{plain} can also mean {', '.join(shadows)}. Remove that file, or choose another name.")
    return path.name.removesuffix(SUFFIX)


def _others(token: AudioToken, name: str, path: Path) -> list[str]:
    """Files that `embedding:NAME` means now, of any suffix and in any folder, other than `token` itself at `path`."""
    return [
        str(other.relative_to(folder))
        for folder, other in _meant_by(name)
        if not (other == path and _same(token, path))
    ]


def _meant_by(name: str) -> list[tuple[Path, Path]]:
    """(folder, file) of each file that the host could take for a name: it looks into every folder of embeddings and those
    below, in no certain order, and some systems do not tell capitals."""
    wanted = {f"{name}{suffix}".casefold() for suffix in ("", *HOST_SUFFIXES)}
    found = {}
    for folder in map(Path, folder_paths.get_folder_paths("embeddings")):
        for root, _, files in os.walk(folder):
            found |= {Path(root, file): folder for file in files if file.casefold() in wanted}
    return [(folder, file) for file, folder in found.items()]


def _free_path(token: AudioToken, folder: Path, name: str) -> Path:
    path, number = folder / f"{name}{SUFFIX}", 2
    while _others(token, path.name.removesuffix(SUFFIX), path):
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


def find(name: str) -> str | None:
    """The file of models/embeddings that a name means, with or without its suffix, also in a folder below."""
    wanted = name.replace("\\", "/")
    listed = {file.replace("\\", "/"): file for file in names()}
    for spelled in (wanted, *(wanted + suffix for suffix in HOST_SUFFIXES)):
        if spelled in listed:
            return listed[spelled]
    wide = {file.casefold(): own for file, own in listed.items()}
    return next(
        (wide[n.casefold()] for n in (wanted, *(wanted + s for s in HOST_SUFFIXES)) if n.casefold() in wide), None
    )


def stamps(text: str) -> list[str]:
    """Size and time of each embedding that a prompt names: its content decides the picture as the prompt does."""
    found = []
    for mention in MENTION.findall(text):
        # The host takes the longest name up to a space; punctuation at its end belongs to the sentence.
        plain = mention
        while plain and find(plain) is None:
            plain = plain[:-1]
        if plain:
            status = os.stat(folder_paths.get_full_path_or_raise("embeddings", find(plain)))
            found.append(f"{plain} {status.st_size} {status.st_mtime_ns}")
    return found


def choices() -> list[str]:
    """What Load Audio Token offers: the files of models/embeddings, then words of trainings that were stopped."""
    return [*names(), *unfinished.words()]


def path_of(name: str | None) -> str | None:
    """The file that one of `choices` stands for; None for any other name."""
    found = unfinished.words().get(name)
    return folders.listed_path("embeddings", name) if found is None else str(found)


def fingerprint(name: str) -> str:
    """A hash of the content of one of `choices`; the name where there is no file."""
    path = path_of(name)
    return folders.file_fingerprint(path) if path else str(name)


def problem(name: str | None) -> str | None:
    """Why a word cannot be loaded, as one or two sentences; None if it can."""
    if str(name).startswith(unfinished.LABEL) and path_of(name) is None:
        return f"There is no {name!r} in output/aai_tokens any more. Press R, or choose another word."
    if path_of(name) is None:
        return (
            f"There is no embedding {name!r} in models/embeddings. Put the file there and press R, or choose another."
        )
    return None


def load(name: str, clip=None) -> AudioToken:
    """Read one of `choices`; `clip`, if given, must take its width. Raises `TokenError`."""
    found = problem(name)
    if found:
        raise TokenError(found, "It must be a name from the list")
    token = formats.load_any(path_of(name))
    if clip is not None:
        check_tokens(clip, {1: token})
    return token
