"""Files that are written again while what was read of them is in use, as Windows allows it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.adapt import formats
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.centre import read_centre, write_centre
from aai_pack.aai_models.align.convert import convert, read_state_dict
from aai_pack.aai_models.align.judge.evaluate import Judged
from aai_pack.aai_models.align.library import Library, build
from aai_pack.aai_models.errors import CheckpointError, TrainingError
from aai_pack.aai_models.files import read_header, read_tensors, write_atomically
from aai_pack.tests import windows
from aai_pack.tests.unit.align_sets import SMALL
from PIL import Image
from safetensors.torch import load_file, save_file


@pytest.fixture
def replaced(monkeypatch) -> list[str]:
    return windows.refuse_held_files(monkeypatch)


@pytest.fixture
def encoder(tmp_path) -> Path:
    path = tmp_path / "encoder.safetensors"
    save_file({name: t.clone() for name, t in CAVTMAE.fresh(SMALL).state_dict().items()}, path, metadata={"a": "b"})
    return path


@pytest.mark.skipif(not windows.PROC.is_dir(), reason="the system does not tell which files are mapped")
def test_the_double_knows_a_mapped_file(encoder, replaced):
    """Tensors as safetensors gives them hold their file, and the double refuses to replace it."""
    mapped = load_file(encoder)
    assert windows.is_held(encoder)
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors .* could not be replaced.*Close the program"):
        write_atomically(encoder, lambda path: path.write_bytes(b"new"), CheckpointError, "an encoder")
    assert read_header(encoder) == {"a": "b"} and not list(encoder.parent.glob(".*partial"))
    del mapped
    gc.collect()
    with open(encoder, "rb"):
        assert windows.is_held(encoder)
    assert not windows.is_held(encoder)
    write_atomically(encoder, lambda path: path.write_bytes(b"new"), CheckpointError, "an encoder")
    assert encoder.read_bytes() == b"new" and replaced == ["encoder.safetensors"]


def test_what_is_read_holds_no_file(encoder):
    header, tensors = read_tensors(encoder)
    expected = load_file(encoder)
    assert header == {"a": "b"} and tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert set(read_tensors(encoder, "blocks_u.")[1]) == {name for name in expected if name.startswith("blocks_u.")}
    del expected
    gc.collect()
    state, judged = read_state_dict(encoder), Judged.open(encoder)
    assert not windows.is_held(encoder) and len(state) == len(tensors) and judged.encoder.dim == SMALL.dim


def test_an_encoder_is_rewritten_while_it_is_in_use(encoder, replaced):
    model = CAVTMAE.from_state_dict(read_state_dict(encoder))
    convert(encoder, encoder, "fp32")
    write_centre(encoder, torch.ones(SMALL.dim))
    assert replaced == [encoder.name] * 2
    assert torch.equal(read_centre(encoder), torch.ones(SMALL.dim))
    assert torch.equal(read_state_dict(encoder)["norm_a.weight"], model.norm_a.weight)


def test_a_library_is_saved_while_it_is_in_use(tmp_path, replaced):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    features = lambda pixels: torch.nn.functional.normalize(pixels.mean(dim=(2, 3)), dim=-1)  # noqa: E731
    for name in ("b.png", "c.png"):
        library = Library.open(tmp_path, "e")
        build(library, features)
        opened = Library.open(tmp_path, "e")
        Image.new("RGB", (30, 20), "blue").save(tmp_path / name)
        build(opened, features)
    assert len(replaced) == 3 and len(Library.open(tmp_path, "e")) == 3


def test_a_word_is_saved_over_the_one_that_is_loaded(tmp_path, replaced):
    path = tmp_path / "word.safetensors"
    AudioToken(torch.ones(8) / 8**0.5, {"clip_l": torch.zeros(1, 768)}, {"clip_l": 1.0}).save(path)
    formats.export(AudioToken.load(path), tmp_path, "other", "a1111")
    ours, ordinary = formats.load_any(path), formats.load_any(tmp_path / "other.a1111.safetensors")
    ours.save(path)
    formats.export(ordinary, tmp_path, "other", "a1111")
    assert len(replaced) == 4


def test_a_folder_that_takes_nothing_is_told_as_such(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(TrainingError, match=r"Could not write new into .*room for a megabyte"):
        write_atomically(tmp_path / "new", lambda path: path.write_bytes(b"x"), TrainingError, "a megabyte")
