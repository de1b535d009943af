"""What fuzzing found, each as a test of its own: damaged and hostile files end in a sentence or count as not there."""

from __future__ import annotations

import json
import struct
import zipfile

import pytest
import torch
from aai_pack.aai_models.adapt import checkpoint
from aai_pack.aai_models.adapt.bridge import Bridge, fit
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.align.centre import read_centre
from aai_pack.aai_models.align.foreign_files import explain_file
from aai_pack.aai_models.errors import PocketError, TokenError, TrainingError
from aai_pack.aai_models.inject.manifest import Manifest
from aai_pack.aai_models.inject.words import find_words, near_misses
from aai_pack.pocket.world import scene, sounds
from safetensors.torch import save_file

DEEP = "[" * 100_000  # JSON that Python's reader gives up on with a RecursionError


def change_header(path, **changes) -> None:
    """Other strings in the header of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"].update(changes)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def a_token() -> AudioToken:
    feature = torch.nn.functional.normalize(torch.ones(768), dim=0)
    return AudioToken(feature, {"clip_l": torch.ones(1, 768)}, {"clip_l": 0.4}, metadata={"config": "{}"})


@pytest.mark.parametrize(
    "changes",
    [
        {"aai.scales": "{}"},
        {"aai.scales": '{"clip_l": 1e999}'},
        {"aai.gain": "nan"},
        {"aai.metadata": '{"config": "{x"}'},
        {"aai.metadata": "[]"},
        {"aai.metadata": DEEP},
        {"aai.adapters": "{}"},
        {
            "aai.directions": '{"clip_l": "{\\"shape\\": [1], \\"float32\\": \\"AACAPw==\\"}"}',
            "aai.scales": '{"clip_l": "x"}',
        },
    ],
    ids=str,
)
def test_a_word_whose_parts_do_not_fit(tmp_path, changes):
    path = tmp_path / "word.safetensors"
    a_token().save(path)
    AudioToken.load(path)
    change_header(path, **changes)
    with pytest.raises(TokenError, match="is not an audio token"):
        AudioToken.load(path)


@pytest.mark.parametrize(
    "figures", ["{}", "[]", '{"words": "é"}', '{"words": 96, "clip_l.cosine": []}', "0.5", DEEP], ids=lambda t: t[:20]
)
def test_a_bridge_whose_figures_are_damaged_is_made_anew(tmp_path, figures):
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(96, 16, generator=generator), dim=-1)
    path = tmp_path / "bridge.safetensors"
    fit(features, {"clip_l": torch.randn(96, 8, generator=generator)}, vocabulary="v").save(path)
    assert Bridge.load(path, "v") is not None
    change_header(path, figures=figures)
    assert Bridge.load(path, "v") is None


@pytest.mark.parametrize("inputs", ["null", '"a"', "0.5", "true", "[]", DEEP], ids=lambda t: t[:20])
@pytest.mark.parametrize("name", ["inputs", "record"])
def test_a_training_whose_record_is_damaged(tmp_path, name, inputs):
    path = tmp_path / "run.safetensors"
    record = {"losses": [1.0], "held_out_losses": [[0, 1.0]], "best_step": 0, "best": {}, "report": None}
    header = {"format": checkpoint.FORMAT, "inputs": json.dumps({"steps": "2"}), "record": json.dumps(record)}
    save_file({"best.clip_l": torch.zeros(1, 768)}, path, metadata=header)
    checkpoint.read({"steps": "2"}, path)
    change_header(path, **{name: inputs})
    with pytest.raises(TrainingError, match="cannot be continued"):
        checkpoint.read({"steps": "2"}, path)


@pytest.mark.parametrize("text", [DEEP, '{"pictures": {"a.png": {"identity": "i", "sound": 7}}}'], ids=lambda t: t[:20])
def test_a_record_of_a_batch_that_is_damaged_stays_and_another_is_written(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    assert Manifest(tmp_path).last_words("sound") == {}
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_record_without_a_sound_names_no_words(tmp_path):
    entry = {"identity": "i", "word": "w", "photo": "a.png", "source": "/photos"}
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 2, "pictures": {"a.png": entry}}))
    assert Manifest(tmp_path).last_words("sound") == {}


def test_the_number_of_a_word_has_an_end():
    text = f"a <A{'9' * 5000}> and <A2>"
    assert find_words(text) == [2]
    assert near_misses(text) == [f"<A{'9' * 5000}>"]


def test_a_mean_of_sounds_that_is_too_deep_is_none(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"aai.audio_centre": DEEP})
    assert read_centre(path) is None


def test_an_encoder_in_an_archive_whose_directory_is_damaged(tmp_path):
    """Names that are no text, and contents that do not unpack, are no reason to fail: the file is no CLAP."""
    path = tmp_path / "clap.pt"
    torch.save({"audio_branch.x": torch.zeros(2), "text_branch.y": torch.zeros(2)}, path)
    assert "CLAP" in str(explain_file(path))
    data = path.read_bytes()
    local = data.index(b"data.pkl") - 4
    path.write_bytes(data[:local] + b"\x80\x80\x80\x80" + data[local + 4 :])
    assert explain_file(path) is None or "CLAP" in str(explain_file(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"audio_branch. text_branch. " * 1000)
    packed = path.read_bytes()
    begins = packed.index(b"data.pkl") + 8
    path.write_bytes(packed[:begins] + b"\xff" * 16 + packed[begins + 16 :])
    assert explain_file(path) is None


@pytest.mark.parametrize("loudness", [float("nan"), float("inf")])
def test_a_loudness_that_is_no_number(loudness):
    with pytest.raises(PocketError, match="loudness"):
        sounds.synthesise("fire", loudness)
    with pytest.raises(PocketError, match="loudness"):
        scene.draw(scene.plain_scene("fire", loudness=loudness))
