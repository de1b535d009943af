"""Disks and rights: names near their limit, names in every alphabet, systems that do not tell capitals, a clock that goes
back, folders that vanish, two servers on one folder, and what a killed write left."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aai_pack.aai_models import files
from aai_pack.aai_models.errors import EditError, TrainingError
from aai_pack.aai_models.files import write_atomically
from aai_pack.aai_models.inject.batch import plan_jobs
from aai_pack.aai_models.inject.manifest import NOTE, Manifest
from PIL import Image, PngImagePlugin

ALPHABETS = ("собака", "犬の写真", "كلب", "כלב", "สุนัข", "개", "σκύλος", "ŧħé_øñê", "🐕" * 20, "e\u0301té", "ﬁlm")


def write(path: Path, text: str = "new") -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text), TrainingError, "a line")


def jobs_of(names, folder="/photos"):
    return plan_jobs({Path(folder, name): "1" for name in names}, {"dog": "w"}, [1.0], {}, {"dog": ""})


def make(manifest: Manifest, folder: Path, job, colour: int = 0) -> None:
    """What a batch does for one picture."""
    job = manifest.claim(job)
    notes = PngImagePlugin.PngInfo()
    notes.add_text(NOTE, job.identity)
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), colour).save(folder / job.file, pnginfo=notes)
    manifest.add(job)


def left_by_a_kill(path: Path, hours: float) -> Path:
    left = path.with_name(f".{path.stem[: files.SHORT]}-{'0a' * 16}.partial")
    left.write_text("half")
    then = time.time() - 3600 * hours
    os.utime(left, (then, then))
    return left


def test_what_killed_writes_left_goes_when_the_next_process_writes_but_a_younger_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_looked_at", set())
    path = tmp_path / "run.safetensors"
    old = [left_by_a_kill(tmp_path / f"{name}.safetensors", 2) for name in ("run", "other", "犬" * 40)]
    young = left_by_a_kill(tmp_path / "young.safetensors", 0.5)  # another process may be at it
    ahead = left_by_a_kill(tmp_path / "ahead.safetensors", -5)  # the clock went back since
    mine = tmp_path / ".run-of-mine.partial"
    mine.write_text("no write of ours")
    os.utime(mine, (0, 0))
    write(path)
    assert path.read_text() == "new" and not any(left.exists() for left in old)
    assert young.exists() and ahead.exists() and mine.exists()


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_looked_at", set())
    looked, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(folder) or scan(folder))
    for number in range(5):
        write(tmp_path / f"{number}.json")
    assert looked == [tmp_path]


@pytest.mark.parametrize("letters", ["a", "é", "犬"])
def test_a_name_as_long_as_a_disk_takes(tmp_path, letters):
    longest = letters * ((255 - len(".json")) // len(letters.encode()))
    write(tmp_path / f"{longest}.json")
    assert (tmp_path / f"{longest}.json").read_text() == "new" and len(os.listdir(tmp_path)) == 1


def test_a_path_over_260_characters(tmp_path):
    """Systems that take it write it; any other says so in a sentence, and nothing stays behind."""
    path = tmp_path.joinpath(*["a" * 60] * 5, "word.json")
    assert len(str(path)) > 260
    try:
        write(path)
        assert path.read_text() == "new"
    except TrainingError as error:
        assert "word.json" in str(error)


def test_a_path_that_no_system_takes_is_a_sentence(tmp_path):
    with pytest.raises(TrainingError, match=r"Could not write word\.json"):
        write(tmp_path.joinpath(*["a" * 200] * 30, "word.json"))
    with pytest.raises(TrainingError, match="Could not write"):
        write(tmp_path / f"{'a' * 300}.json")
    assert not os.listdir(tmp_path) or sys.platform == "win32"


def test_photos_named_in_every_alphabet(tmp_path):
    planned = Manifest(tmp_path).place(jobs_of([f"{name}.png" for name in ALPHABETS]))
    manifest = Manifest(tmp_path)
    for job in planned:
        make(manifest, tmp_path, job)
    assert len({job.file for job in planned}) == len(ALPHABETS)
    again = Manifest(tmp_path)
    again.place(jobs_of([f"{name}.png" for name in ALPHABETS]))
    assert again.finished == {job.file for job in planned}


def test_a_system_that_does_not_tell_capitals(tmp_path, monkeypatch):
    """Photos whose names differ in capitals or in how an accent is stored alone, written to a disk that folds both."""
    names = [
        "Dog.png",
        "dog.PNG",
        "DOG.jpg",
        "\u00e9t\u00e9.png",
        "e\u0301te\u0301.png",
        "stra\u00dfe.png",
        "STRASSE.png",
    ]
    manifest = Manifest(tmp_path)
    planned = manifest.place(jobs_of(names))
    folded = {folding(job.file) for job in planned}
    assert len(folded) == len(names), "two photos would be written to one file"
    for job in planned:
        make(manifest, tmp_path, job)
    # The disk tells the names in another spelling than they were written.
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [name.upper() for name in listed(folder)])
    again = Manifest(tmp_path)
    assert {job.file for job in again.place(jobs_of(names))} == {job.file for job in planned}
    assert len(again.finished) == len(names)


def folding(name: str) -> str:
    """What some systems make of a name."""
    import unicodedata

    return unicodedata.normalize("NFD", name).casefold()


def test_a_clock_that_goes_back(tmp_path, monkeypatch):
    """Pictures of the future are still those of the batch, and none is made twice."""
    manifest = Manifest(tmp_path)
    planned = manifest.place(jobs_of(["a.png", "b.png"]))
    make(manifest, tmp_path, planned[0])
    monkeypatch.setattr(time, "time", lambda: 1.0)
    os.utime(tmp_path / planned[0].file, (1, 1))
    make(manifest, tmp_path, planned[1])
    again = Manifest(tmp_path)
    again.place(jobs_of(["a.png", "b.png"]))
    assert again.finished == {job.file for job in planned}
    # Settings changed: the picture is replaced, as nobody touched it.
    changed = [replace(job, identity="other") for job in planned]
    assert [job.file for job in Manifest(tmp_path).place(changed)] == [job.file for job in planned]


def test_a_folder_that_vanishes_between_a_picture_and_its_record(tmp_path):
    folder = tmp_path / "out"
    manifest = Manifest(folder)
    (job,) = manifest.place(jobs_of(["a.png"]))
    with pytest.raises(EditError, match=r"is not there any more.*finished pictures are kept"):
        manifest.add(job)


def test_two_servers_on_one_output_folder(tmp_path):
    """Each writes the whole record; what one loses of the other's, the pictures themselves tell."""
    names = [f"{number}.png" for number in range(6)]
    first, second = Manifest(tmp_path), Manifest(tmp_path)
    of_first, of_second = first.place(jobs_of(names[:3])), second.place(jobs_of(names[3:]))
    for one, other in zip(of_first, of_second, strict=True):
        make(first, tmp_path, one)
        make(second, tmp_path, other)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    third = Manifest(tmp_path)
    third.place(jobs_of(names))
    assert third.finished == set(before), "a picture would be made twice"
    third.save()
    assert Manifest(tmp_path).place(jobs_of(names))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == before


def test_two_servers_that_make_the_same_batch_lose_no_picture(tmp_path):
    first, second = Manifest(tmp_path), Manifest(tmp_path)
    (one,), (other,) = first.place(jobs_of(["a.png"])), second.place(jobs_of(["a.png"]))
    make(first, tmp_path, one, colour=1)
    make(second, tmp_path, other, colour=1)
    third = Manifest(tmp_path)
    third.place(jobs_of(["a.png"]))
    assert len(third.finished) == 1
    assert all(Image.open(path).size == (4, 4) for path in tmp_path.glob("*.png"))
