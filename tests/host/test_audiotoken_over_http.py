"""AudioToken as a person has it: files in their folders, the examples over HTTP, and what lies in the wrong place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from aai_pack.aai_models.align.audiotoken import files
from aai_pack.devtools import workflows
from aai_pack.tests import audiotoken_twin as twin
from aai_pack.tests.host import graphs
from aai_pack.tests.host.test_bad_input import assert_readable


@pytest.fixture(scope="module")
def installed(workspace, client):
    """AudioToken in a folder of its own and loose, a folder without an embedder, and BEATs where CAVT-MAE belongs."""
    base = workspace.models / "audio_encoders"
    twin.write(base, seed=3)
    for name in ("AudioToken", "half"):
        twin.write(base / name)
    (base / "half" / files.EMBEDDER).unlink()
    torch.save(twin.beats_content(), workspace.models / "cavt_mae" / files.BEATS)
    shown = client.get("/object_info/AAI_LoadCAVT")["AAI_LoadCAVT"]["input"]["required"]["checkpoint"]
    yield shown[1].get("options", shown[0])
    (workspace.models / "cavt_mae" / files.BEATS).unlink()
    (base / files.EMBEDDER).unlink()
    (base / files.BEATS).unlink()


def example(name: str, stand_ins, checkpoint: str = "audio_encoders/AudioToken") -> dict:
    return workflows.shrink(workflows.load_real(name), replace(stand_ins, cavt=checkpoint))


def test_the_menu(installed):
    names = {"audio_encoders/AudioToken", "audio_encoders/half", f"audio_encoders/{files.EMBEDDER}", files.BEATS}
    assert names <= set(installed)


@pytest.mark.parametrize("name", ["AudioToken", files.EMBEDDER])
def test_a_word_without_training(installed, client, stand_ins, name):
    """The whole of example 6: a sound, a word, a picture."""
    run = client.run(example("06 Word without training", stand_ins, f"audio_encoders/{name}"))
    assert run.status == "success", run.message
    said = str(run.outputs)
    assert "Heard: " in said and "needs no bridge" in said
    assert any(file["filename"].endswith(".png") for shown in run.outputs.values() for file in shown.get("images", []))


def test_training_begins_there(installed, client, stand_ins):
    run = client.run(example("01 Sound to picture", replace(stand_ins, steps=2, sampler_steps=1)))
    assert run.status == "success", run.message
    assert "AudioToken's word for clip_l, where this word begins" in str(run.outputs)


def test_it_sees_no_pictures(installed, client, stand_ins):
    run = client.run(example("04 Sound finds pictures", stand_ins))
    assert_readable(run, "AudioToken cannot encode pictures")


def test_the_published_dropout(installed, client, stand_ins):
    prompt = example("06 Word without training", stand_ins)
    loader = next(node for node in prompt.values() if node["class_type"] == "AAI_LoadCAVT")
    loader["inputs"]["dropout_seed"] = 4
    run = client.run(prompt)
    assert run.status == "success", run.message
    assert "AudioToken (dropout 4)'s own" in str(run.outputs)


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("audio_encoders/half", ("half has no embedder_learned_embeds.bin", "models/audio_encoders")),
        (files.BEATS, ("is BEATs, no CAVT-MAE", "models/audio_encoders")),
    ],
)
def test_what_lies_in_the_wrong_place(installed, client, stand_ins, checkpoint, words):
    graph = graphs.train(stand_ins, name="wrong-place")
    graph["12"]["inputs"]["checkpoint"] = checkpoint
    assert_readable(client.run(graph), *words)
