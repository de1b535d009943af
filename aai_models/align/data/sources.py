"""Reads which clips there are: ESC-50, UrbanSound8K, VGGSound, a table of your own, or folders named by label."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import DataError
from ..images import SUFFIXES

VIDEO = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg")
SOUND = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".m4a", ".aac", ".wma")
FOLD_NAME = re.compile(r"^([1-9])-[0-9]+-[A-Z]")  # ESC: fold-source-take
NUMBERED = re.compile(r"^\d{3} - ")  # "001 - Dog bark", as ESC-10 was published


@dataclass(frozen=True)
class Clip:
    """One sound with what belongs to it."""

    id: str
    sound: Path  # a sound file or a video
    label: str  # the class, as a person writes it
    text: str = ""  # a sentence of its own; empty: the label
    split: str = "train"
    fold: int = 0  # of a cross-validation; 0: none
    start: float = 0.0  # seconds into the file
    seconds: float | None = None  # None: to the end
    pictures: tuple[Path, ...] = ()
    group: str = ""  # recording that the clip was cut from; clips of one are held out together. Empty: the id

    @property
    def is_video(self) -> bool:
        return self.sound.suffix.lower() in VIDEO


def plain(label: str) -> str:
    """A label as words: "001 - Dog bark" -> "Dog bark", "sea_waves" -> "sea waves"."""
    return " ".join(NUMBERED.sub("", label).replace("_", " ").split())


def read_clips(source: Path, layout: str = "auto", media: Path | None = None) -> list[Clip]:
    """The clips of a folder or a table, in its order. `media`: where the files of a table lie (default: beside it).

    Layouts: esc50, urbansound8k, vggsound (csv of id, start, label, split), table (csv with a header: audio, image...,
    text, and any of id, label, split, fold, start, seconds), folders (one folder for each label). Raises `DataError`.
    """
    if not source.exists():
        raise DataError(f"There is no {source}", "A folder or a .csv file is needed", "Correct its name")
    layout = _recognise(source) if layout == "auto" else layout
    if layout not in LAYOUTS:
        raise DataError(f"layout is {layout!r}", f"Known are auto, {', '.join(LAYOUTS)}")
    clips = list(LAYOUTS[layout](source, media))
    if not clips:
        raise DataError(
            f"{source} has no clips (read as {layout})",
            "It must hold sounds or videos, or a table that names them",
            "Choose another folder, or name the layout",
        )
    return clips


def _recognise(source: Path) -> str:
    if source.is_file():
        with open(source, encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
        return "table" if "audio" in [cell.strip().lower() for cell in first] else "vggsound"
    if (source / "meta" / "esc50.csv").is_file():
        return "esc50"
    if (source / "metadata" / "UrbanSound8K.csv").is_file():
        return "urbansound8k"
    found = [path for path in source.glob("*/*") if path.suffix.lower() in SOUND]
    return "esc50" if found and all(FOLD_NAME.match(path.name) for path in found) else "folders"


def _rows(path: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column name, lower case."""
    if not path.is_file():
        raise DataError(f"There is no table {path}", "This layout needs it", "Choose another folder or layout")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
        missing = [name for name in needed if name not in reader.fieldnames]
        if missing:
            raise DataError(
                f"{path.name} has no column {missing[0]}; its columns are {', '.join(reader.fieldnames)}",
                f"It needs {', '.join(needed)}",
            )
        for row in reader:
            yield reader.line_num, {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}


def _number(cell: str, path: Path, line: int, column: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"{path.name}, line {line}: {column} is {cell!r}", "It must be a number") from None


def _esc50(source: Path, media: Path | None) -> Iterator[Clip]:
    """`meta/esc50.csv` and `audio/`; or folders of classes with files named fold-source-take (ESC-10's first form)."""
    table = source / "meta" / "esc50.csv"
    if table.is_file():
        for line, row in _rows(table, "filename", "fold", "category"):
            fold = int(_number(row["fold"], table, line, "fold"))
            path = (media or source / "audio") / row["filename"]
            yield Clip(path.stem, path, plain(row["category"]), fold=fold, group=_recording(path.stem))
        return
    for path in sorted(source.glob("*/*")):
        if path.suffix.lower() in SOUND and (match := FOLD_NAME.match(path.name)):
            yield Clip(path.stem, path, plain(path.parent.name), fold=int(match[1]), group=_recording(path.stem))


def _recording(name: str) -> str:
    """fold-source of fold-source-take."""
    return "-".join(name.split("-")[:2])


def _urbansound8k(source: Path, media: Path | None) -> Iterator[Clip]:
    table = source / "metadata" / "UrbanSound8K.csv"
    for line, row in _rows(table, "slice_file_name", "fold", "class"):
        fold = int(_number(row["fold"], table, line, "fold"))
        path = (media or source / "audio") / f"fold{fold}" / row["slice_file_name"]
        yield Clip(path.stem, path, plain(row["class"]), fold=fold, group=path.stem.split("-")[0])


def _vggsound(source: Path, media: Path | None) -> Iterator[Clip]:
    """`id, start, label, split` without a header. Files: ID_000030.ext cut to 10 seconds, or ID.ext, the whole video."""
    folder = media or source.parent
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (*VIDEO, *SOUND):
            files.setdefault(path.stem, path)
    with open(source, encoding="utf-8-sig", newline="") as file:
        for line, row in enumerate(csv.reader(file), start=1):
            if len(row) < 4:
                raise DataError(f"{source.name}, line {line} has {len(row)} cells", "A line is id, start, label, split")
            name, start, label, split = (cell.strip() for cell in row[:4])
            begin = _number(start, source, line, "start")
            cut = f"{name}_{int(begin):06d}"
            sound = files.get(cut, folder / f"{name}.mp4")
            clip = Clip(cut, sound, plain(label), split=split, seconds=10.0, group=name)
            yield clip if cut in files else replace(clip, sound=files.get(name, clip.sound), start=begin)


def _table(source: Path, media: Path | None) -> Iterator[Clip]:
    folder = media or source.parent
    for line, row in _rows(source, "audio"):
        text, label = row.get("text", ""), row.get("label") or row.get("text", "")
        if not label:
            raise DataError(f"{source.name}, line {line} has neither text nor label", "Each clip needs one of them")
        cells = [value for key, value in row.items() if key.startswith("image") and value]
        names = [name.strip() for cell in cells for name in cell.split(";") if name.strip()]
        recording = Path(row["audio"]).with_suffix("").as_posix()
        yield Clip(
            row.get("id") or (f"{recording}@{row['start']}" if row.get("start") else recording),
            folder / row["audio"],
            label,
            text if text != label else "",
            row.get("split") or "train",
            int(_number(row.get("fold") or "0", source, line, "fold")),
            _number(row.get("start") or "0", source, line, "start"),
            _number(row["seconds"], source, line, "seconds") if row.get("seconds") else None,
            tuple(folder / name for name in names),
            recording,
        )


def _folders(source: Path, media: Path | None) -> Iterator[Clip]:
    """One folder for each label; or train/, val/ and test/ with such folders inside."""
    splits = [name for name in ("train", "val", "test") if (source / name).is_dir()]
    for split in splits or ["train"]:
        top = source / split if splits else source
        for folder in sorted(path for path in top.iterdir() if path.is_dir()):
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in (*SOUND, *VIDEO):
                    name = path.relative_to(source).with_suffix("").as_posix()
                    yield Clip(name, path, plain(folder.name), split=split)


LAYOUTS: dict[str, Callable[[Path, Path | None], Iterator[Clip]]] = {
    "esc50": _esc50,
    "urbansound8k": _urbansound8k,
    "vggsound": _vggsound,
    "table": _table,
    "folders": _folders,
}


def pictures_by_label(folder: Path) -> dict[str, list[Path]]:
    """Pictures in one folder for each label -> plain label, lower case -> paths. Raises `DataError` without any."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(plain(path.parent.name).lower(), []).append(path)
    if not found:
        raise DataError(f"{folder} holds no pictures", "It must hold one folder of pictures for each label")
    return found
