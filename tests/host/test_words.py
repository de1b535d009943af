"""Words from files and with other sounds, through the HTTP API."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.tests.host import graphs
from safetensors.torch import load_file, save_file


def other_sound(stand_ins, name: str, gain: float, **sound) -> dict:
    """Load a word, give it a sound, save it as NAME-moved."""
    graph = graphs.hear(stand_ins, **sound)
    graph["14"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}}
    graph["40"] = {"class_type": "AAI_LoadAudioToken", "inputs": {"name": f"{name}.safetensors", "clip": ["14", 1]}}
    inputs = {"audio_token": ["40", 0], "audio_feature": ["13", 0], "audio_gain": gain}
    graph["41"] = {"class_type": "AAI_ApplyAdapter", "inputs": inputs}
    inputs = {"audio_token": ["41", 0], "name": f"{name}-moved", "if_exists": "replace", "export": "both"}
    graph["42"] = {"class_type": "AAI_SaveAudioToken", "inputs": inputs}
    return graph


def test_another_sound_in_a_saved_word(client, stand_ins, workspace):
    folder = workspace.models / "embeddings"
    run = client.run(graphs.train(stand_ins, name="first"))
    assert run.status == "success", run.message
    first = AudioToken.load(folder / "first.safetensors")
    same = client.run(other_sound(stand_ins, "first", 1.0))
    assert same.status == "success", same.message
    assert same.outputs["42"]["text"][1:] == ["first-moved.diffusers.safetensors", "first-moved.a1111.safetensors"]
    assert torch.equal(AudioToken.load(folder / "first-moved.safetensors").vectors["clip_l"], first.vectors["clip_l"])
    assert client.run(other_sound(stand_ins, "first", 0.0)).status == "success"
    silent = AudioToken.load(folder / "first-moved.safetensors")
    assert torch.equal(silent.vectors["clip_l"], first.adapters["clip_l"])
    exported = load_file(workspace.root / "output" / "aai_tokens" / "first-moved.a1111.safetensors")
    assert torch.equal(exported["emb_params"], silent.vectors["clip_l"])


@pytest.mark.parametrize(
    ("content", "words"),
    [({"x": torch.zeros(1, 1024)}, "clip_h (1024 wide)"), ({"clip_l": torch.zeros(1, 768)}, "without a sound")],
    ids=["width", "no sound"],
)
def test_words_that_do_not_fit(client, stand_ins, workspace, content, words):
    save_file(content, workspace.models / "embeddings" / "stranger.safetensors")
    run = client.run(other_sound(stand_ins, "stranger", 1.0))
    assert run.status == "error" and words in run.message, run.message


@pytest.mark.parametrize("name", ["gone", "../x"])
def test_files_that_are_not_there(client, stand_ins, name):
    run = client.run(other_sound(stand_ins, name, 1.0))
    assert run.status in ("error", "rejected") and "no embedding" in run.message, run.message
