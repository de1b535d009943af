"""Words of trainings that did not reach their end, as Load Audio Token offers them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors import SafetensorError

from ....aai_models.files import read_header
from ..base import folders

FILE = re.compile(r"(?P<run>[0-9a-f]{24})-step(?P<step>\d+)\.safetensors")
LABEL = "unfinished: "
LONGEST_PROMPT = 40  # characters of it in the menu


def file_of(run: str, step: int) -> Path:
    """Where the best word of a run that was stopped is kept."""
    return folders.partial_tokens_folder() / f"{run}-step{step}.safetensors"


def words() -> dict[str, Path]:
    """Name in the menu -> file, the newest first: "unfinished: a photo of <A*>, step 140 (1f3c5a)"."""
    folder, found = folders.partial_tokens_folder(), []
    try:
        for path in folder.iterdir():
            if match := FILE.fullmatch(path.name):
                found.append((path.stat().st_mtime_ns, _label(path, **match.groupdict()), path))
    except OSError:  # no folder, or one that went away
        pass
    return {label: path for _, label, path in sorted(found, reverse=True)}


def _label(path: Path, run: str, step: str) -> str:
    prompt = _prompt(path)
    if len(prompt) > LONGEST_PROMPT:
        prompt = f"{prompt[: LONGEST_PROMPT - 3]}..."
    return f"{LABEL}{f'{prompt}, ' if prompt else ''}step {step} ({run[:6]})"


def _prompt(path: Path) -> str:
    """The prompt that the word is learned in; nothing where the file does not say it."""
    try:
        config = json.loads(json.loads(read_header(path)["aai.metadata"])["config"])
        return " ".join(str(config["prompt"]).split())
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return ""
