"""What an encoder's file says of the texts that it is aligned with: written by `train`, declared to and kept by `convert`."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.alignment import HEADER, TEXT_ENCODER, alignment_of, read_alignment
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.centre import read_centre, write_centre
from aai_pack.aai_models.align.data.shards import ShardSet, ShardSource
from aai_pack.aai_models.align.texts import CLIPTexts, HashedWords, Reduced
from aai_pack.aai_models.files import read_header
from aai_pack.tests.unit.align_sets import SMALL, make_set, memory_source, run, small_config
from safetensors.torch import save_file

CLIP = "CLIP 768 0123456789abcdef"


def write(path, header=None):
    save_file(CAVTMAE.fresh(SMALL).state_dict(), path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, ""),
        ({HEADER: "clip_l"}, "clip_l"),
        ({HEADER: "another space"}, ""),
        ({HEADER: "", "config": "{}", "data": f"24 clips; {CLIP}"}, ""),
        ({"config": "{}", "data": f"24 clips; {CLIP}"}, "clip_l"),  # version 0.1.0
        ({"config": "{}", "data": "24 clips; hashed words 768"}, ""),
        ({"config": "{}", "data": "24 clips; CLIP 512 0123456789abcdef to 768"}, ""),
        ({"data": f"24 clips; {CLIP}"}, ""),
    ],
)
def test_what_a_header_says(tmp_path, header, expected):
    assert alignment_of(header) == expected
    assert read_alignment(write(tmp_path / "encoder.safetensors", header)) == expected


def test_a_file_that_says_nothing(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    for name in ("broken.safetensors", "missing.safetensors", "encoder.pth"):
        assert read_alignment(tmp_path / name) == ""


def test_converting_and_centring_keep_it(tmp_path):
    path = write(tmp_path / "a.safetensors", {HEADER: "clip_l", TEXT_ENCODER: CLIP})
    write_centre(path, torch.full((64,), 0.1))
    assert main(["convert", str(path), str(tmp_path / "b.safetensors"), "--audio-only"]) == 0
    header = read_header(tmp_path / "b.safetensors")
    assert (header[HEADER], header[TEXT_ENCODER]) == ("clip_l", CLIP)
    assert torch.equal(read_centre(tmp_path / "b.safetensors"), read_centre(path))
    old = write(tmp_path / "old.safetensors", {"config": "{}", "data": f"24 clips; {CLIP}"})
    assert main(["convert", str(old), str(tmp_path / "new.safetensors")]) == 0
    assert read_alignment(tmp_path / "new.safetensors") == "clip_l"


def test_it_can_be_declared(tmp_path, capsys):
    """A published .pth says nothing; its owner may know."""
    torch.save(CAVTMAE.fresh(SMALL).state_dict(), tmp_path / "own.pth")
    command = ["convert", str(tmp_path / "own.pth"), str(tmp_path / "own.safetensors")]
    assert main(command) == 0 and read_alignment(tmp_path / "own.safetensors") == ""
    assert "aligned with: no text encoder" in capsys.readouterr().out
    assert (
        main([*command, "--aligned-with", "clip_l"]) == 0 and read_alignment(tmp_path / "own.safetensors") == "clip_l"
    )
    assert "aligned with: clip_l" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--aligned-with", "clap"])
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("aligned_with", ["clip_l", ""])
def test_training_writes_it(tmp_path, aligned_with):
    config = small_config(epochs=1)
    run(tmp_path, memory_source(config, text_encoder=CLIP, aligned_with=aligned_with), config)
    for name in ("best.safetensors", "final.safetensors"):
        header = read_header(tmp_path / name)
        assert read_alignment(tmp_path / name) == header[HEADER] == aligned_with and header[TEXT_ENCODER] == CLIP


def write_clip_texts(folder, width: int):
    """A CLIPTextModel of one layer and its tokenizer."""
    import json

    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir()
    vocab = {piece: n for n, piece in enumerate(["a", "a</w>", "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    layers = {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": width, "intermediate_size": 16}
    CLIPTextModel(CLIPTextConfig(vocab_size=4, **layers)).save_pretrained(folder)
    return folder


def test_texts_and_the_source_that_carries_them(tmp_path):
    wide = CLIPTexts(write_clip_texts(tmp_path / "wide", 768))
    narrow = CLIPTexts(write_clip_texts(tmp_path / "narrow", 64))
    assert (wide.aligned_with, narrow.aligned_with, HashedWords(768).aligned_with) == ("clip_l", "", "")
    assert Reduced(wide, 768).aligned_with == "clip_l" and Reduced(wide, 64).aligned_with == ""
    assert Reduced(narrow, 768).aligned_with == ""
    source = ShardSource(ShardSet.open(str(make_set(tmp_path))), small_config(), Reduced(wide, 768), states=None)
    assert (source.aligned_with, source.text_encoder) == ("clip_l", wide.name)
    assert alignment_of({"config": "{}", "data": source.name}) == "clip_l", "as version 0.1.0 wrote it"
