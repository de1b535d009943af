"""Photos of a folder for a batch: which there are, in which order, and what of the folder is left out."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ....aai_models.align.images import picture_suffixes
from ....aai_models.errors import EditError
from ....aai_models.inject.batch import natural_key
from ....aai_models.inject.manifest import MANIFEST, is_record
from ..base import walks

TO_CONVERT = (".heic", ".heif", ".avif", ".jp2", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".svg", ".jxl")


@dataclass
class PhotoFolder:
    """What lies in a folder and below it."""

    photos: dict[Path, str] = field(default_factory=dict)  # in natural order, with size and time of each
    left_out: Counter = field(default_factory=Counter)  # suffix -> files
    hidden: int = 0  # `._*` of macOS and the like, with the suffix of a picture
    results: list[str] = field(default_factory=list)  # folders that a batch wrote
    closed: list[str] = field(default_factory=list)  # folders and files that cannot be opened
    outside: int = 0  # links that were not followed

    def lines(self) -> list[str]:
        """What is left out, for the report."""
        lines = []
        if self.left_out:
            count = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in sorted(self.left_out.items()))
            photos = any(suffix in TO_CONVERT for suffix in self.left_out)
            lines.append(f"left out: {count}" + (". Save photos among them as JPG or PNG" if photos else ""))
        if self.hidden:
            lines.append(f"left out: {self.hidden} hidden files (such as those that macOS writes beside photos)")
        lines += [f"left out: the folder {name}, results of a batch" for name in self.results]
        lines += [f"left out: {name} cannot be opened. Correct its permissions" for name in self.closed]
        if self.outside:
            lines.append(f"left out: {self.outside} links, which lead out of the folders that this server may read")
        return lines


def find_photos(folder: Path, output: Path) -> PhotoFolder:
    """Photos of `folder` and below, without results of batches. Raises `EditError` if it is the output itself."""
    folder, output = folder.resolve(), output.resolve()
    if folder == output:
        raise EditError(
            f"Photos and results are in one folder, {folder.name}",
            "The batch would use its own results as photos",
            "Write another name into `output`, for instance `stylised`",
        )
    found, suffixes, stamps, walk = PhotoFolder(), picture_suffixes(), {}, walks.open_walk(folder)
    for root, folders, files in walk:
        real = Path(os.path.realpath(root))
        if real == output or (real != folder and MANIFEST in files and _is_of_a_batch(real / MANIFEST)):
            found.results.append(os.path.relpath(root, folder))
            folders.clear()
            continue
        for name in files:
            _sort_in(found, stamps, Path(root, name), suffixes)
    found.closed += walk.closed
    found.outside = len(walk.outside)
    found.photos = {path: stamps[path] for path in sorted(stamps, key=lambda p: natural_key(p.relative_to(folder)))}
    return found


def _sort_in(found: PhotoFolder, stamps: dict[Path, str], path: Path, suffixes: tuple[str, ...]) -> None:
    is_picture = path.name.lower().endswith(suffixes)
    if path.name.startswith("."):
        found.hidden += is_picture
    elif not is_picture:
        found.left_out[path.suffix.lower()] += 1
    else:
        try:
            status = os.stat(path)
        except OSError:  # a link to nowhere, or gone since
            found.closed.append(path.name)
            return
        stamps[path] = f"{status.st_size} {status.st_mtime_ns}"


def _is_of_a_batch(path: Path) -> bool:
    try:
        return is_record(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return False
