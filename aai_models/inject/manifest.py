"""The record of a batch in its output folder: which pictures it wrote, so that it touches no others and makes none twice."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..errors import EditError
from ..files import write_atomically
from .batch import Job

MANIFEST = "manifest.json"
NOTE = "aai_batch"  # text in a picture: the identity of its job
ALWAYS_WRITTEN = 1000  # pictures up to which the record is written after each
SHARE_OF_TIME = 0.02  # of a batch that may go into writing a longer record
# What an entry must have, and what it may have: the record of version 0.1.0 knows fewer.
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("identity", "photo", "source", "sound", "place", "word", "sha256"), str),
    **dict.fromkeys(("size", "time"), int),
    "scale": (int, float),
}


class Manifest:
    """What a batch has written. A file that is not in the record, or that was changed since, is never written over."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._path, self._entries = _find_record(folder)
        self._of_place = {entry["place"]: file for file, entry in self._entries.items() if "place" in entry}
        self._finished: set[str] = set()
        self._written_at, self._cost, self._is_saved = 0.0, 0.0, True

    @property
    def finished(self) -> set[str]:
        """Names of files of the jobs of `place` that need not be made."""
        return self._finished

    def place(self, jobs: list[Job]) -> list[Job]:
        """The jobs with the names that their files have or will have. What is there already becomes `finished`."""
        there = {_folded(name) for name in _names_in(self._folder)}
        taken, placed = there | {_folded(name) for name in self._entries}, []
        for job in jobs:
            file = self._of_place.get(job.place)
            is_there = file is not None and _folded(file) in there
            if file is None or (is_there and not self._is_finished(job, file) and not self._is_untouched(file)):
                file = self._free_name(job, taken)
                is_there = _folded(file) in there
            taken.add(_folded(file))
            placed.append(replace(job, file=file))
            if is_there and self._is_finished(job, file):
                self._finished.add(file)
        return placed

    def last_words(self, name: str) -> dict[str, str]:
        """Sounds of the photo that was made last whose names are `name` and a number -> what their words are known by."""
        last = next(reversed(self._entries.values()), {})
        photo = (_folder_key(last), last.get("photo"))
        return {
            entry["sound"]: entry["word"]
            for entry in self._entries.values()
            if entry.get("word") and "sound" in entry and (_folder_key(entry), entry.get("photo")) == photo
            if entry["sound"].rstrip("0123456789") == name
        }

    def claim(self, job: Job) -> Job:
        """The job with a name that it may be written to now: a file may have come since the plan."""
        if not os.path.lexists(self._folder / job.file) or self._is_untouched(job.file):
            return job
        taken = {_folded(name) for name in (*_names_in(self._folder), *self._entries)}
        return replace(job, file=self._free_name(job, taken))

    def add(self, job: Job) -> None:
        """Record a picture that was written. Raises `EditError` if the disk is full, or the folder is gone."""
        try:
            self._record(job, job.file)
        except OSError as error:
            raise EditError(
                f"{job.file} was written into {self._folder.name} and is not there any more ({error.strerror or error})",
                "The output folder must stay available while a batch runs",
                "Connect its drive again, then run again: finished pictures are kept",
            ) from None
        self._finished.add(job.file)
        is_due = time.monotonic() - self._written_at > self._cost / SHARE_OF_TIME
        if len(self._entries) <= ALWAYS_WRITTEN or is_due:
            self.save()

    def save(self) -> None:
        """Write what is not written yet. Raises `EditError` if the disk is full."""
        if self._is_saved:
            return
        began = time.monotonic()
        text = json.dumps({"format": 2, "pictures": self._entries}, indent=1)
        write_atomically(self._path, lambda path: path.write_text(text, encoding="utf-8"), EditError, "the manifest")
        self._is_saved, self._written_at = True, time.monotonic()
        self._cost = self._written_at - began

    def _record(self, job: Job, file: str) -> None:
        path = self._folder / file
        status = path.stat()
        self._entries.pop(self._of_place.get(job.place), None)
        self._entries[file] = {
            **{"photo": job.photo.name, "folder": _digest(job.photo.parent), "sound": job.sound, "scale": job.scale},
            **{"place": job.place, "identity": job.identity, "size": status.st_size, "time": status.st_mtime_ns},
            **{"word": job.word, "sha256": _sha256(path)},
        }
        self._of_place[job.place] = file
        self._is_saved = False

    def _is_finished(self, job: Job, file: str) -> bool:
        return self._entries.get(file, {}).get("identity") == job.identity

    def _is_untouched(self, file: str) -> bool:
        """Whether a file is still what this batch wrote: by size and time, or else by content."""
        entry, path = self._entries.get(file, {}), self._folder / file
        try:
            status = path.stat()
            if status.st_size != entry.get("size"):
                return False
            return status.st_mtime_ns == entry.get("time") or _sha256(path) == entry.get("sha256")
        except OSError:
            return False

    def _free_name(self, job: Job, taken: set[str]) -> str:
        """A name that nothing has; or that of this job's own picture, if a batch was killed before it recorded it."""
        stem = job.file.removesuffix(job.tail)
        for number in itertools.count(1):
            file = job.file if number == 1 else f"{stem}-{number}{job.tail}"
            if _folded(file) not in taken:
                return file
            if file not in self._entries and _identity_in(self._folder / file) == job.identity:
                self._record(job, file)
                return file
        raise AssertionError("Counting has no end")


def _find_record(folder: Path) -> tuple[Path, dict[str, dict]]:
    """The record of a folder, or the name of a new one where there is none. Files of that name that are something else,
    or damaged, stay as they are."""
    for number in itertools.count(1):
        path = folder / (MANIFEST if number == 1 else f"manifest-{number}.json")
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return path, {}
        except OSError as error:
            raise EditError(
                f"{path.name} cannot be read ({error.strerror or error})",
                "It is the list of pictures that a batch has finished",
                "Correct its permissions, or choose another output",
            ) from None
        except (ValueError, RecursionError):
            continue
        if is_record(content):
            entries = content["pictures"].items()
            return path, {file: entry for file, entry in entries if file == os.path.basename(file)}
    raise AssertionError("Counting has no end")


def _digest(folder: str | Path) -> str:
    """Tells folders apart without their names: a server shows this record to whoever sees the pictures."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _folder_key(entry: dict) -> str | None:
    """Which folder an entry's photo is from; records made before 0.2.0 have its whole path."""
    return entry.get("folder") or (_digest(entry["source"]) if isinstance(entry.get("source"), str) else None)


def is_record(content) -> bool:
    """Whether the JSON of a `manifest.json` is that of a batch, also of version 0.1.0."""
    pictures = content.get("pictures") if isinstance(content, dict) else None
    return isinstance(pictures, dict) and all(
        isinstance(entry, dict)
        and "identity" in entry
        and all(isinstance(value, KINDS.get(name, object)) for name, value in entry.items())
        for entry in pictures.values()
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # there is none yet
        return []


def _folded(name: str) -> str:
    """Equal for names that some systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _identity_in(path: Path) -> str | None:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return picture.info.get(NOTE)
    except (OSError, ValueError, SyntaxError):
        return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
