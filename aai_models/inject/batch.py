"""A batch of stylised pictures: its plan, the names of its files, and the record of what is finished."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from ..errors import EditError
from ..files import write_atomically

MANIFEST = "manifest.json"
LONGEST_PART = 60  # letters of a photo's or a sound's name in a file name
MOST_JOBS = 100_000


@dataclass(frozen=True)
class Job:
    """One picture to make."""

    photo: Path
    sound: str
    scale: float
    file: str  # name of the picture in the output folder
    identity: str  # changes with everything that the picture depends on


def parse_scales(text: str) -> list[float]:
    """`0.5, 1, 1.5` -> numbers in [0, 2], in order, each once. Raises `EditError`."""
    try:
        scales = [float(part) for part in re.split(r"[,;\s]+", text.strip()) if part]
    except ValueError:
        scales = []
    if not scales or any(not 0.0 <= scale <= 2.0 for scale in scales):
        raise EditError(
            f"The scales are {text!r}", "Numbers from 0 to 2, separated by commas", "Write for instance `0.5, 1, 1.5`"
        )
    return list(dict.fromkeys(scales))


def plan_jobs(photos: dict[Path, str], sounds: dict[str, str], scales: list[float], settings: dict) -> list[Job]:
    """Every photo with every sound at every scale.

    photos: path -> what its content is known by (size and time, or a hash); sounds: name -> hash of the word; settings:
    whatever else the pictures depend on, as JSON values.
    """
    count = len(photos) * len(sounds) * len(scales)
    if not count or count > MOST_JOBS:
        raise EditError(
            f"{len(photos)} photos x {len(sounds)} sounds x {len(scales)} scales are {count} pictures",
            f"A batch makes 1 to {MOST_JOBS}",
            "Connect at least one of each" if not count else "Divide the folder",
        )
    names, spoken = _distinct_names(list(photos)), _distinct([(sound, sound) for sound in sounds])
    jobs = []
    for (photo, content), (sound, word), scale in product(photos.items(), sounds.items(), scales):
        described = json.dumps([content, word, scale, settings], sort_keys=True)
        identity = hashlib.sha256(described.encode()).hexdigest()
        jobs.append(Job(photo, sound, scale, f"{names[photo]}__{spoken[sound]}__x{scale:.2f}.png", identity))
    return jobs


def _distinct_names(photos: list[Path]) -> dict[Path, str]:
    """A name for each photo; those of one stem keep their suffix."""
    stems = [_plain(photo.stem).casefold() for photo in photos]
    wanted = [
        (photo, photo.stem if stems.count(stem) == 1 else f"{photo.stem}_{photo.suffix.lstrip('.')}")
        for photo, stem in zip(photos, stems, strict=True)
    ]
    return _distinct(wanted)


def _distinct(wanted: list[tuple]) -> dict:
    """Keys with the names that they would have -> names for files, with a number where two would be one."""
    names: dict = {}
    for key, name in wanted:
        taken, number = {used.casefold() for used in names.values()}, 2
        free = name = _plain(name)
        while free.casefold() in taken:
            free, number = f"{name}-{number}", number + 1
        names[key] = free
    return names


def _plain(text: str) -> str:
    """Letters, digits and '-', '_', '+' of any language, so that every system can store it."""
    return re.sub(r"[^\w+-]+", "_", text).strip("_")[:LONGEST_PART] or "unnamed"


def table(jobs: list[Job], finished: set[str]) -> str:
    """The plan as text: what will be made, what is there already."""
    lines = [f"{'file':<70} {'sound':<24} {'scale':>5}  state"]
    for job in jobs:
        state = "finished" if job.identity in finished else "to do"
        lines.append(f"{job.file:<70} {job.sound:<24} {job.scale:>5.2f}  {state}")
    done = sum(job.identity in finished for job in jobs)
    return "\n".join([*lines, f"{len(jobs)} pictures, {done} finished, {len(jobs) - done} to do"])


class Manifest:
    """What a batch has finished, in the output folder; written whole after each picture."""

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder / MANIFEST
        self._entries: dict[str, dict] = self._read()

    def _read(self) -> dict[str, dict]:
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))["pictures"]
            return {file: dict(entry) for file, entry in entries.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # missing or damaged: every picture is made again

    def finished(self) -> set[str]:
        """Identities of pictures whose file is still there."""
        return {entry.get("identity", "") for file, entry in self._entries.items() if (self._folder / file).is_file()}

    def add(self, job: Job) -> None:
        """Record a picture. Raises `EditError` if the disk is full."""
        entry = {**asdict(job), "photo": job.photo.name}
        self._entries[entry.pop("file")] = entry
        text = json.dumps({"pictures": self._entries}, indent=1)
        write_atomically(self._path, lambda path: path.write_text(text, encoding="utf-8"), EditError, "the manifest")
