"""Makes a training set: webdataset tar shards of sounds, pictures and labels, and an index beside them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ...audio.errors import AudioError
from ...errors import DataError
from ...files import write_atomically
from .media import KEPT, FramePicker, clip_pictures, picture_bytes, sound_bytes
from .sources import Clip, pictures_by_label

INDEX, STATE, FORMAT = "index.json", "unfinished.json", "aai-shards-1"
AT_ONCE = 32  # clips read ahead of the writer


@dataclass
class PrepareReport:
    """What became of the clips."""

    written: dict[str, int] = field(default_factory=dict)  # by split
    skipped: dict[str, str] = field(default_factory=dict)  # id -> why
    duplicates: list[str] = field(default_factory=list)  # ids that came again; the first one stays
    pictures: int = 0
    without_pictures: dict[str, int] = field(default_factory=dict)  # label -> clips that train the text side alone

    def lines(self) -> list[str]:
        """The report in words."""
        lines = [f"{split}: {count} clips" for split, count in self.written.items()]
        lines.append(f"{self.pictures} pictures")
        if self.duplicates:
            lines.append(f"{len(self.duplicates)} ids came more than once, the first: {self.duplicates[0]}")
        for label, count in self.without_pictures.items():
            lines.append(f"the label {label!r} has {count} clips without a picture: they train only the text side")
        return lines + [f"skipped {name}: {why}" for name, why in self.skipped.items()]


def choose_folds(clips: list[Clip], train: list[int], test: list[int]) -> list[Clip]:
    """The clips of these folds alone, those of `test` in the split `test`."""
    both = set(train) & set(test)
    if both:
        raise DataError(
            f"Fold {min(both)} is used for training and for testing", "A fold can only be used for one of them"
        )
    kept = [replace(c, split="test" if c.fold in test else "train") for c in clips if c.fold in {*train, *test}]
    missing = {*train, *test} - {clip.fold for clip in kept}
    if missing:
        there = sorted({clip.fold for clip in clips})
        raise DataError(f"There is no clip of fold {min(missing)}", f"Folds are {there}")
    return kept


def hold_out(clips: list[Clip], share: float, seed: int = 0) -> list[Clip]:
    """About this share of the training recordings as split `val`, which chooses the best checkpoint; drawn by a hash.

    Nothing is changed where there is a `val` split already.
    """
    if any(clip.split == "val" for clip in clips):
        return clips

    def drawn(clip: Clip) -> bool:
        digest = hashlib.sha256(f"{seed} {clip.group or clip.id}".encode("utf-8", "surrogateescape")).digest()
        return clip.split == "train" and int.from_bytes(digest[:6], "big") < share * 2**48

    return [replace(clip, split="val") if drawn(clip) else clip for clip in clips]


def give_pictures(clips: list[Clip], folder: Path, count: int, seed: int = 0) -> list[Clip]:
    """Each clip gets `count` pictures of its label's folder, drawn by its id and the seed."""
    library = pictures_by_label(folder)

    def chosen(clip: Clip) -> tuple[Path, ...]:
        paths = library.get(clip.label.lower(), [])
        order = sorted(paths, key=lambda path: hashlib.sha256(f"{seed} {clip.id} {path.name}".encode()).digest())
        return tuple(order[:count])

    return [replace(clip, pictures=chosen(clip)) for clip in clips]


@dataclass
class _Read:
    """A clip as it was read, or why it could not be."""

    clip: Clip
    sound: bytes = b""
    suffix: str = ""
    pictures: list = field(default_factory=list)  # in the order of time
    failure: str = ""


def _read(clip: Clip) -> _Read:
    try:
        sound, suffix = sound_bytes(clip)
    except (AudioError, OSError) as error:
        return _Read(clip, failure=str(error))
    try:
        return _Read(clip, sound, suffix, clip_pictures(clip))
    except (OSError, ValueError) as error:
        return _Read(clip, failure=f"its pictures: {error}")


def _read_all(clips: list[Clip], workers: int) -> Iterator[_Read]:
    """In the clips' order, only a few ahead."""
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(clips), AT_ONCE):
            yield from pool.map(_read, clips[first : first + AT_ONCE])


def _by_id(clips: list[Clip]) -> tuple[dict[str, Clip], list[str]]:
    """The first clip of each id, and the ids that came again."""
    unique: dict[str, Clip] = {}
    duplicates = []
    for clip in clips:
        if unique.setdefault(clip.id, clip) is not clip:
            duplicates.append(clip.id)
    return unique, duplicates


def prepare(
    clips: list[Clip],
    folder: Path,
    *,
    picker: FramePicker | None = None,
    shard_size: int = 1000,
    keep: int = KEPT,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Write the clips as shards of at most `shard_size` clips into `folder`, which must not exist -> what was done.

    `picker` orders a clip's pictures by its label; `keep` of them are stored, the best first; without it `keep` of them,
    evenly spaced. Clips that are missing, silent or damaged are skipped and named. The folder appears when it is whole;
    after any other end the same call goes on behind the last whole shard. Raises `DataError` if a split ends up empty.
    """
    if folder.exists():
        raise DataError(
            f"The folder {folder} already exists", "A training set is made in a new folder", "Remove or rename it"
        )
    unique, duplicates = _by_id(clips)
    partial = folder.with_name(f"{folder.name}.partial")
    of = repr((clips, shard_size, keep, picker is not None)).encode("utf-8", "surrogateescape")
    state = _State.begin(partial, hashlib.sha256(of).hexdigest())
    state.report.duplicates = duplicates
    writing = _Writing(partial, state, picker, shard_size, keep, workers, progress)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        for split in sorted({clip.split for clip in clips}):
            writing.split(split, [clip for clip in unique.values() if clip.split == split])
        index = json.dumps(state.index(sorted({clip.label for clip in clips})), ensure_ascii=False, indent=1)
        (partial / INDEX).write_text(index, encoding="utf-8", errors="surrogateescape")
        (partial / STATE).unlink()
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(
            f"The training set could not be written to {folder} ({error.strerror or error})",
            "Its disk must be writable and have room for the sounds and pictures",
            "Free some space, then call again: it continues after the last whole shard",
        ) from None
    return state.report


@dataclass
class _State:
    """Progress of the writing, kept beside the shards."""

    of: str  # tells which clips and settings
    read: dict[str, int] = field(default_factory=dict)  # clips of each split that are done
    shards: dict[str, list[dict]] = field(default_factory=dict)
    rows: int = 0
    most: int = 0  # pictures of a clip
    report: PrepareReport = field(default_factory=PrepareReport)

    @classmethod
    def begin(cls, folder: Path, of: str) -> _State:
        """What the folder of an unfinished call says if it was the same call; else a beginning, and the folder is emptied."""
        try:
            values = json.loads((folder / STATE).read_text(encoding="utf-8", errors="surrogateescape"))
            values["report"] = PrepareReport(**values["report"])
            state = cls(**values)
            if state.of == of:
                return state
        except (OSError, ValueError, TypeError, KeyError):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        return cls(of)

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "surrogateescape")
        write_atomically(folder / STATE, lambda path: path.write_bytes(text), DataError, "the training set")

    def index(self, labels: list[str]) -> dict:
        splits = {
            split: {"clips": sum(s["clips"] for s in shards), "shards": shards} for split, shards in self.shards.items()
        }
        about = {"format": FORMAT, "labels": labels, "rows": self.rows, "pictures_per_clip": self.most}
        return about | {"splits": splits, "report": asdict(self.report)}


@dataclass
class _Writing:
    """Writes splits into a folder, shard by shard."""

    folder: Path
    state: _State
    picker: FramePicker | None
    shard_size: int
    keep: int
    workers: int
    progress: Callable[[int, int], None] | None

    def split(self, name: str, clips: list[Clip]) -> None:
        """The rest of a split. Raises `DataError` if none of its clips could be read."""
        state, shards = self.state, self.state.shards.setdefault(name, [])
        state.read.setdefault(name, 0)
        reads = _read_all(clips[state.read[name] :], self.workers)
        while state.read[name] < len(clips):
            path = self.folder / f"{_file_name(name)}-{len(shards):06d}.tar"
            if count := self._shard(path, name, reads, len(clips)):
                shards.append({"name": path.name, "clips": count})
                state.report.written[name] = state.report.written.get(name, 0) + count
                state.save(self.folder)
            else:
                path.unlink()
        if not shards:
            skipped = state.report.skipped
            shutil.rmtree(self.folder, ignore_errors=True)
            raise DataError(
                f"The split {name!r} is empty: none of its {len(clips)} clips could be read"
                + (f", for example {next(iter(skipped.values()))}" if skipped else ""),
                "Each split must hold at least one clip",
                "Check the folder of the files (--media), and the reasons above",
            )

    def _shard(self, path: Path, split: str, reads: Iterator[_Read], total: int) -> int:
        """The next clips in one tar -> how many there were."""
        from webdataset.writer import TarWriter

        state, report, count = self.state, self.state.report, 0
        with open(path, "wb") as file, contextlib.closing(TarWriter(file, mtime=0)) as tar:
            for read in reads:
                state.read[split] += 1
                if self.progress:
                    self.progress(state.read[split], total)
                if read.failure:
                    report.skipped[read.clip.id] = read.failure
                    continue
                order = _order(read, self.picker, self.keep)
                pictures = [picture_bytes(read.pictures[i]) for i in order]
                tar.write(_sample(state.rows, read, order, pictures))
                state.rows, state.most = state.rows + 1, max(state.most, len(pictures))
                report.pictures += len(pictures)
                if not pictures:
                    report.without_pictures[read.clip.label] = report.without_pictures.get(read.clip.label, 0) + 1
                count += 1
                if count == self.shard_size:
                    break
        return count


def _file_name(split: str) -> str:
    """The split's name as every disk and storage takes it."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in split)
    return name if name == split else f"{name}_{hashlib.sha256(split.encode()).hexdigest()[:6]}"


def _order(read: _Read, picker: FramePicker | None, keep: int) -> list[int]:
    """Which pictures are kept, the best first."""
    count = len(read.pictures)
    if picker is not None and count:
        return picker.order(read.pictures, read.clip.label)[:keep]
    return list(range(count)) if count <= keep else [i * count // keep for i in range(keep)]


def _sample(row: int, read: _Read, order: list[int], pictures: list[bytes]) -> dict:
    """One clip's members; `order` tells where in time each picture stood, of `looked_at`."""
    clip = read.clip
    note: dict[str, object] = {"row": row, "id": clip.id, "label": clip.label, "text": clip.text, "fold": clip.fold}
    note |= {"order": order, "looked_at": len(read.pictures)}
    text = json.dumps(note, ensure_ascii=False).encode("utf-8", "surrogateescape")
    sample = {"__key__": f"{row:09d}", "json": text, f"sound.{read.suffix}": read.sound}
    return sample | {f"picture{n:02d}.jpg": data for n, data in enumerate(pictures)}
