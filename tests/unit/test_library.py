"""The picture library: what is found, kept, encoded again, skipped, and answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.align import library as module
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.images import image_input
from aai_pack.aai_models.align.library import INDEX_NAME, Library, build, source_of
from aai_pack.aai_models.errors import LibraryError
from aai_pack.aai_models.walk import Walk
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def colour(pixels: torch.Tensor) -> torch.Tensor:
    """A stand-in for the image tower that tells colours apart: (B, 3, 224, 224) -> (B, 3) unit vectors."""
    return torch.nn.functional.normalize(pixels.mean(dim=(2, 3)) + 0.01, dim=-1)


def paint(path: Path, rgb, size=(300, 200)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, rgb).save(path)
    return path


RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "pictures"
    paint(root / "red.png", RED)
    paint(root / "sub" / "green.jpg", GREEN, size=(40, 900))
    paint(root / "blue.webp", BLUE, size=(1, 1))
    return root


def built(folder: Path, encoder="e", **options) -> Library:
    library = Library.open(folder, encoder)
    build(library, colour, **options)
    return library


def feature(rgb) -> torch.Tensor:
    return colour(image_input(Image.new("RGB", (8, 8), rgb))[None])[0]


def test_answers(folder):
    library = built(folder)
    assert sorted(library.paths) == ["blue.webp", "red.png", os.path.join("sub", "green.jpg")]
    for rgb, name in ((RED, "red.png"), (GREEN, "green.jpg"), (BLUE, "blue.webp")):
        matches = library.query(feature(rgb), k=3)
        assert matches[0].path.name == name and matches[0].similarity == pytest.approx(1.0, abs=1e-2)
        assert [m.similarity for m in matches] == sorted((m.similarity for m in matches), reverse=True)
    assert len(library.query(feature(RED), k=2)) == 2
    assert len(library.query(feature(RED), k=9)) == 3
    assert [m.path.name for m in library.query(feature(RED), k=9, minimum=0.9)] == ["red.png"]


def test_only_what_changed_is_encoded_again(folder):
    built(folder)
    library = Library.open(folder, "e")
    assert len(library) == 3
    report = build(library, colour)
    assert (report.added, report.kept, report.removed) == (0, 3, 0)
    paint(folder / "red.png", GREEN, size=(77, 77))
    (folder / "blue.webp").unlink()
    paint(folder / "new.bmp", BLUE)
    report = build(Library.open(folder, "e"), colour)
    assert (report.added, report.kept, report.removed) == (2, 1, 1)
    names = {m.path.name for m in Library.open(folder, "e").query(feature(GREEN), k=2)}
    assert names == {"red.png", "green.jpg"}


def test_another_encoders_index_is_never_mixed(folder):
    built(folder)
    other = Library.open(folder, "other")
    assert len(other) == 0
    assert build(other, lambda pixels: torch.nn.functional.normalize(torch.ones(len(pixels), 5), dim=-1)).added == 3
    assert Library.open(folder, "other").features.shape == (3, 5)
    assert len(Library.open(folder, "e")) == 0


def test_a_build_that_stops_keeps_what_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    for index in range(7):
        paint(tmp_path / f"{index}.png", RED)

    def stop(done, total):
        assert total == 7
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(Library.open(tmp_path, "e"), colour, on_progress=stop)
    library = Library.open(tmp_path, "e")
    assert len(library) == 4
    report = build(library, colour)
    assert (report.added, report.kept) == (3, 4)


def test_it_saves_on_the_way(tmp_path, monkeypatch):
    """A process that is killed outright loses no more than the time between two saves."""
    monkeypatch.setattr(module, "BATCH", 1)
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    for index in range(3):
        paint(tmp_path / f"{index}.png", RED)
    sizes = []
    build(Library.open(tmp_path, "e"), colour, on_progress=lambda *_: sizes.append(len(Library.open(tmp_path, "e"))))
    assert sizes == [0, 0, 1, 2]


def test_what_is_no_picture_is_skipped_and_named(folder):
    (folder / "text.png").write_text("no picture")
    (folder / "empty.jpg").write_bytes(b"")
    data = paint(folder / "half.png", RED, size=(400, 400)).read_bytes()
    (folder / "half.png").write_bytes(data[: len(data) // 2])
    (folder / ".hidden.png").write_text("x")
    (folder / "notes.txt").write_text("x")
    report = build(Library.open(folder, "e"), colour)
    assert report.added == 3 and sorted(report.corrupt) == ["empty.jpg", "half.png", "text.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_links_in_circles_and_to_nowhere(folder):
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    assert len(built(folder)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_names_that_are_not_utf8(folder):
    os.rename(folder / "red.png", os.fsencode(folder) + b"/caf\xe9 \n.png")
    built(folder)
    (match,) = Library.open(folder, "e").query(feature(RED), k=1)
    assert Image.open(match.path).size == (300, 200)


def test_one_frame_of_a_film(tmp_path):
    for number in range(5):
        paint(tmp_path / f"storm_frame{number:03}.png", RED)
    paint(tmp_path / "sea#1.png", (200, 30, 30))
    paint(tmp_path / "IMG_0001.png", (190, 60, 20))
    paint(tmp_path / "IMG_0002.png", (180, 70, 20))
    library = built(tmp_path)
    names = [m.path.name for m in library.query(feature(RED), k=4)]
    assert sum(name.startswith("storm") for name in names) == 1 and len(names) == 4
    assert sum(m.path.name.startswith("storm") for m in library.query(feature(RED), k=4, one_per_source=False)) == 4


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/storm_frame12.png", "a/storm"),
        ("storm#3.jpg", "storm"),
        ("IMG_0001.jpg", "IMG_0001.jpg"),
        ("#1.png", "#1.png"),
    ],
)
def test_sources(path, source):
    assert source_of(path) == source


def test_folders_that_cannot_answer(tmp_path):
    for name in ("nowhere", "x" * 5000, "a\0b"):
        with pytest.raises(LibraryError, match="There is no folder"):
            Library.open(tmp_path / name, "e")
    empty = built(tmp_path)
    with pytest.raises(LibraryError, match="holds no picture"):
        empty.query(torch.ones(3))
    paint(tmp_path / "a.png", RED)
    with pytest.raises(LibraryError, match="has 768 values"):
        built(tmp_path).query(torch.ones(768))


def test_a_damaged_index_is_built_anew(folder):
    built(folder)
    data = (folder / INDEX_NAME).read_bytes()
    for damage in (b"", b"junk", data[:100], data[:-7]):
        (folder / INDEX_NAME).write_bytes(damage)
        assert len(Library.open(folder, "e")) == 0
        assert len(built(folder)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"features": torch.ones(3, dtype=torch.float16)},
        {"features": torch.ones(2, 3, dtype=torch.float16)},
        {"features": torch.ones(3, 3)},
        {"stamps": torch.zeros(3, dtype=torch.int64)},
        {"stamps": torch.zeros(3, 2)},
        {"paths": torch.ones(3, dtype=torch.bfloat16)},
        {"paths": torch.zeros(0, dtype=torch.uint8)},
    ],
)
def test_an_index_of_other_tensors_is_built_anew(folder, change):
    """A file of a folder from a stranger: well formed, and not what it says."""
    from safetensors.torch import load_file, save_file

    built(folder)
    tensors = load_file(folder / INDEX_NAME) | change
    save_file(tensors, folder / INDEX_NAME, metadata={"format": module.FORMAT, "encoder": "e"})
    assert len(Library.open(folder, "e")) == 0
    assert len(built(folder)) == 3


def test_an_index_that_points_outside_finds_nothing_there(folder, tmp_path):
    paint(tmp_path / "secret.png", RED)
    library = built(folder)
    library.paths[0] = os.path.join("..", "secret.png")
    library.save()
    names = {m.path.resolve() for m in built(folder).query(feature(RED), k=9)}
    assert tmp_path / "secret.png" not in names and len(names) == 3


def test_a_report_says_what_was_done_and_how_fast(folder):
    (folder / "text.png").write_text("no picture")
    text = str(build(Library.open(folder, "e"), colour))
    assert text.startswith("3 added, 0 kept, 0 removed; ") and "pictures per second" in text
    assert text.endswith("1 left out, cannot be read as a picture (text.png)")
    (folder / "text.png").unlink()
    assert str(build(Library.open(folder, "e"), colour)) == "0 added, 3 kept, 0 removed"


def test_an_index_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match="Could not write"):
        build(Library.open(folder, "e"), colour, index=tmp_path / "file" / "x.safetensors")


def test_the_folder_vanishes_in_the_middle(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(module, "BATCH", 2)
    root = tmp_path / "pictures"
    for index in range(8):
        paint(root / f"{index}.png", RED)
    index = tmp_path / "index.safetensors"
    with pytest.raises(LibraryError, match="disappeared"):
        build(Library.open(root, "e", index), colour, index, on_progress=lambda d, _: d and shutil.rmtree(root, True))
    assert index.exists()


def test_of_ten_thousand_files_none_is_opened_again(tmp_path):
    for index in range(10_000):
        (tmp_path / f"{index}.png").write_bytes(b"x")
    found = dict(module.find_pictures(Walk(tmp_path)))
    stamps, features = torch.tensor(list(found.values())), torch.ones(len(found), 3, dtype=torch.float16)
    Library(tmp_path, "e", list(found), stamps, features).save()
    report = build(Library.open(tmp_path, "e"), colour)
    assert report.kept == 10_000 and not report.corrupt and report.decoding_seconds == 0


def test_search_is_exact(tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(40_000, 32, generator=generator), dim=-1)
    library = Library(tmp_path, "e", [f"{i}.png" for i in range(40_000)], torch.zeros(40_000, 2), features.half())
    query = features[123]
    expected = (features.half().float() @ query).argsort(descending=True)[:200].tolist()
    assert [int(m.path.stem) for m in library.query(query, k=200)] == expected


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    from aai_pack.devtools.stand_in import write_cavt

    path = tmp_path_factory.mktemp("encoder") / "stand_in.pth"
    write_cavt(path)
    return path


class TestCommandLine:
    def run(self, *arguments) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "aai_models.align", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    def test_convert(self, encoder, tmp_path):
        from safetensors import safe_open

        done = self.run("convert", encoder, tmp_path / "c.safetensors", "--dtype", "fp16")
        assert done.returncode == 0, done.stderr
        with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
            header = file.metadata()
            assert header["source"] == encoder.name and header["dtype"] == "fp16" and len(header["sha256"]) == 64
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        assert CAVTMAE.from_state_dict(tensors).has_images
        done = self.run("convert", encoder, tmp_path / "a.safetensors", "--audio-only", "--dtype", "fp32")
        assert "cavt-mae-audio" in done.stdout

    @pytest.mark.parametrize("content", [b"", b"hello", b"cos\nsystem\n(S'true'\ntR."])
    def test_convert_refuses(self, tmp_path, content):
        (tmp_path / "x.pth").write_bytes(content)
        done = self.run("convert", tmp_path / "x.pth", tmp_path / "c.safetensors")
        assert done.returncode == 1 and "x.pth cannot be read" in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "c.safetensors").exists()

    def test_library(self, encoder, folder, recordings):
        done = self.run("library", "build", folder, "--encoder", encoder)
        assert done.returncode == 0 and "3 pictures: 3 added" in done.stdout, done.stderr
        assert "pictures per second" in done.stdout and "of 3 pictures, " in done.stderr
        done = self.run("library", "query", folder, recordings / "boom.wav", "--encoder", encoder, "-k", 2)
        assert len(done.stdout.splitlines()) == 2, done.stderr
        done = self.run("library", "info", folder, "--encoder", encoder)
        assert "3 pictures, features of 768 values" in done.stdout
        done = self.run("library", "query", folder / "nowhere", recordings / "boom.wav", "--encoder", encoder)
        assert done.returncode == 1 and "There is no folder" in done.stderr
