"""A batch of stylised pictures: its plan, and the names of its files. Finished pictures are listed in `manifest`."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..errors import EditError

LONGEST_PART = 60  # letters of a photo's or a sound's name in a file name
LONGEST_BYTES = 90  # of the same: most disks take names of 255 bytes
MOST_JOBS = 100_000
MOST_LINES = 1000  # of a plan that are shown


@dataclass(frozen=True)
class Job:
    """One picture to make."""

    photo: Path
    sound: str
    scale: float
    file: str  # name of the picture in the output folder
    tail: str  # the part of that name for sound and scale
    place: str  # a hash of photo, sound and scale: which picture of the batch it is, whatever the settings
    identity: str  # changes with everything that the picture depends on
    word: str = ""  # identity of the sound's word


def parse_scales(text: str) -> list[float]:
    """`0.5, 1, 1.5` -> numbers in [0, 2], in order, each once. Raises `EditError`."""
    try:
        scales = [float(part) for part in re.split(r"[,;\s]+", text.strip()) if part]
    except ValueError:
        scales = []
    if not scales or any(not 0.0 <= scale <= 2.0 for scale in scales):
        raise EditError(
            f"The scales are {text!r}",
            "They must be numbers from 0 to 2, with commas",
            "Write for instance `0.5, 1, 1.5`",
        )
    return list(dict.fromkeys(map(abs, scales)))


def scale_text(scale: float) -> str:
    """A scale in a file's name: two digits, more where it has more, so that no two scales share a text."""
    short = f"{scale:.2f}"
    return short if float(short) == scale else repr(scale)


def plan_jobs(
    photos: dict[Path, str],
    sounds: dict[str, str],
    scales: list[float],
    settings: dict,
    origins: dict[str, str] | None = None,
) -> list[Job]:
    """Every photo with every sound at every scale, in the order that they are given in. Takes linear time.

    photos: path -> what its content is known by (size and time, or a hash); sounds: name -> hash of the word; settings:
    whatever else the pictures depend on, as JSON values; origins: where a sound is from, for two sounds of one name.
    """
    count = len(photos) * len(sounds) * len(scales)
    if not count or count > MOST_JOBS:
        raise EditError(
            f"{len(photos)} photos x {len(sounds)} sounds x {len(scales)} scales are {count} pictures",
            f"A batch makes 1 to {MOST_JOBS}",
            "Connect at least one of each" if not count else "Divide the folder into smaller ones",
        )
    names, spoken = _distinct_names(list(photos)), _distinct([(sound, sound) for sound in sounds])
    shared, jobs = json.dumps(settings, sort_keys=True), []
    shared = hashlib.sha256(shared.encode("utf-8", "surrogateescape")).hexdigest()
    for (photo, content), (sound, word), scale in product(photos.items(), sounds.items(), scales):
        tail = f"__{spoken[sound]}__x{scale_text(scale)}.png"
        place = _hash(str(photo), sound, (origins or {}).get(sound, ""), scale)[:24]
        identity = _hash(str(photo), content, word, scale, shared)
        jobs.append(Job(photo, sound, scale, names[photo] + tail, tail, place, identity, word))
    return jobs


def _hash(*parts) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def natural_key(path: Path) -> tuple:
    """Sorts as people count, folder by folder: 1, 2, 10."""
    parts = (re.split(r"(\d+)", part.casefold()) for part in path.parts)
    return (*([int(text) if text.isdecimal() else text for text in part] for part in parts), [str(path)])


def _distinct_names(photos: list[Path]) -> dict[Path, str]:
    """A name for each photo; those of one stem keep their suffix."""
    stems = [_plain(photo.stem).casefold() for photo in photos]
    count = Counter(stems)
    wanted = [
        (photo, photo.stem if count[stem] == 1 else f"{photo.stem}_{photo.suffix.lstrip('.')}")
        for photo, stem in zip(photos, stems, strict=True)
    ]
    return _distinct(wanted)


def _distinct(wanted: list[tuple]) -> dict:
    """Keys with the names that they would have -> names for files, with a number where two would be one."""
    names: dict = {}
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one that was given, for each name: counting from 2 again would be quadratic
    for key, name in wanted:
        free = name = _plain(name)
        while free.casefold() in taken:
            numbers[name.casefold()] = number = numbers.get(name.casefold(), 1) + 1
            free = f"{name}-{number}"
        taken.add(free.casefold())
        names[key] = free
    return names


def _plain(text: str) -> str:
    """Letters, digits and '-', '_', '+' of any language, so that every system can store it."""
    plain = re.sub(r"[^\w+-]+", "_", text).strip("_")[:LONGEST_PART]
    return plain.encode()[:LONGEST_BYTES].decode(errors="ignore") or "unnamed"


def table(jobs: list[Job], finished: Container[str]) -> str:
    """The plan as text: what will be made, what is there already. `finished`: names of files."""
    lines = [f"{'file':<70} {'sound':<24} {'scale':>5}  state"]
    done = [job.file in finished for job in jobs]
    for job, there in zip(jobs[:MOST_LINES], done, strict=False):
        state = "finished" if there else "to do"
        lines.append(f"{job.file:<70} {job.sound:<24} {scale_text(job.scale):>5}  {state}")
    if len(jobs) > MOST_LINES:
        lines.append(f"... and {len(jobs) - MOST_LINES} more")
    return "\n".join([*lines, f"{len(jobs)} pictures, {sum(done)} finished, {len(jobs) - sum(done)} to do"])
