"""The folder of a comparison: its manifest, and the pictures, sounds and workflows that it lists."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..align import images
from ..errors import StudyError
from ..files import write_atomically
from .plan import Plan, parse_plan

MANIFEST = "manifest.json"
FORMAT = "aai-comparison"
VERSION = 1


@dataclass(frozen=True)
class Picture:
    """One picture of one method; prompt and seed are numbers in the plan's lists."""

    sound: str
    method: str
    prompt: int
    seed: int
    file: str = ""  # relative to the folder; empty where there is none
    workflow: str = ""  # the graph that made it; empty for a picture of another system
    identity: str = ""  # hash of all that it depends on
    sha256: str = ""
    seconds: float = 0.0
    problem: str = ""  # why there is none

    @property
    def place(self) -> tuple[str, str, int, int]:
        return self.sound, self.method, self.prompt, self.seed


@dataclass
class Material:
    """What belongs to a sound, as files relative to the folder."""

    audio: str = ""
    references: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    identity: str = ""


class Record:
    """A comparison on the disk. Every change is written at once, and a killed run loses the picture in work alone."""

    def __init__(self, folder: Path, plan: Plan, host: str = ""):
        self.folder, self.plan, self.host = folder, plan, host
        self.pictures: dict[tuple, Picture] = {}
        self.material: dict[str, Material] = {}

    @classmethod
    def open(cls, folder: Path) -> Record:
        """Read a folder that `make` wrote; raises `StudyError` for any other."""
        content = _read(folder)
        if content is None:
            raise StudyError(
                f"{folder} holds no {MANIFEST}",
                "It must be a folder that `make` wrote",
                "Name that folder, or run `python -m aai_models.study make PLAN.json` first",
            )
        try:
            plan = parse_plan(content["plan"], folder, str(content.get("name", folder.name)))
            record = cls(folder, plan, str(content.get("host", "")))
            record.pictures = {p.place: p for p in (Picture(**entry) for entry in content["pictures"])}
            record.material = {str(name): Material(**entry) for name, entry in content["sounds"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder, f"{type(error).__name__}: {error}") from None
        names = [p.file for p in record.pictures.values()]
        names += [name for m in record.material.values() for name in (m.audio, *m.references, *m.held_out)]
        outside = next((name for name in names if Path(name).is_absolute() or ".." in Path(name).parts), None)
        if outside is not None:
            raise _damaged(folder, f"the file {outside!r} lies outside of it")
        return record

    def take_over(self) -> None:
        """Know again what an earlier run of this folder made, whatever its plan was."""
        content = _read(self.folder)
        if content is None:
            return
        try:
            old = [Picture(**entry) for entry in content["pictures"]]
            self.pictures = {picture.place: picture for picture in old}
            self.material = {str(name): Material(**entry) for name, entry in content["sounds"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(self.folder, f"{type(error).__name__}: {error}") from None

    def is_made(self, place: tuple, identity: str) -> bool:
        """Whether the picture of a place is there, whole, and made as it would be made now."""
        picture = self.pictures.get(place)
        return (
            picture is not None
            and bool(picture.file)
            and picture.identity == identity
            and file_hash(self.folder / picture.file) == picture.sha256
        )

    def add(self, picture: Picture) -> None:
        self.pictures[picture.place] = picture
        self.save()

    def keep_only_the_plan(self) -> None:
        """Leave out of the manifest what the plan does not name any more; files stay."""
        known = {(s.name, m.name, p, k) for s, m, p, k in self.plan.cells()}
        self.pictures = {place: picture for place, picture in self.pictures.items() if place in known}
        names = {sound.name for sound in self.plan.sounds}
        self.material = {name: entry for name, entry in self.material.items() if name in names}

    def save(self) -> None:
        content = {
            **{"format": FORMAT, "version": VERSION, "name": self.plan.name, "host": self.host, "plan": self.plan.raw},
            "sounds": {name: vars(entry) for name, entry in self.material.items()},
            "pictures": [vars(picture) for picture in self.pictures.values()],
        }
        self.write(MANIFEST, json.dumps(content, indent=1, ensure_ascii=False).encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder, whole or not at all."""
        path = self.folder / name
        write_atomically(path, lambda temporary: temporary.write_bytes(content), StudyError, f"{len(content):,} bytes")

    def cell(self, sound: str, method: str, prompt: int, seed: int) -> Path | None:
        """The file of a picture, or None where there is none that can be opened."""
        picture = self.pictures.get((sound, method, prompt, seed))
        path = self.folder / picture.file if picture is not None and picture.file else None
        return path if path is not None and is_picture(path) else None

    def missing(self) -> list[str]:
        """What the plan asks for and is not there, as sentences without a full stop."""
        found = []
        for sound, method, prompt, seed in self.plan.cells():
            if self.cell(sound.name, method.name, prompt, seed) is None:
                picture = self.pictures.get((sound.name, method.name, prompt, seed))
                reason = picture.problem if picture is not None and picture.problem else "there is no picture"
                place = f"prompt {prompt + 1}, seed {self.plan.seeds[seed]}"
                found.append(f"{sound.name}, {method.name}, {place}: {reason.rstrip('.')}")
        return found


def identity_of(*parts: object) -> str:
    """A hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def is_picture(path: Path) -> bool:
    """Whether a file opens as a picture; its pixels are not decoded."""
    try:
        with Image.open(path) as picture:
            return picture.width > 0
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def open_picture(path: Path) -> Image.Image:
    """A picture as RGB; raises `StudyError`."""
    try:
        return images.open_picture(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path} cannot be read ({error})", "It must be a picture", "Make it again, or replace the file"
        ) from None


def _read(folder: Path) -> dict | None:
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _damaged(folder, str(error)) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise _damaged(folder, f"it is no {FORMAT} of version {VERSION}")
    return content


def _damaged(folder: Path, reason: str) -> StudyError:
    return StudyError(
        f"{folder / MANIFEST} cannot be used ({reason})",
        "It is the list of the pictures of a comparison",
        "Restore it, or make the comparison into another folder",
    )
