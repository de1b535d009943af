"""The main job over HTTP: a recording goes in, a word is learned, a picture comes out; the saved word works alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.resample import resample
from aai_pack.devtools import workflows
from aai_pack.tests.host import graphs
from aai_pack.tests.sounds import write_encoded
from PIL import Image
from safetensors import safe_open

# Of the picture that an example saves last; sheets are as large as what they show.
SIZES = {
    **{
        name: (64, 64, 3)
        for name in ("01 Sound to picture", "02 Saved word", "04 Sound finds pictures", "08 Breathing with the sound")
    },
    "03 Look at sound": (720, 1024, 3),
}
FORMATS = ("boom.wav", "house_lo.wav", "house_lo.flac", "house_lo.ogg", "house_lo.mp3", "house_lo.opus")


@pytest.fixture(scope="module")
def example_runs(client, stand_ins):
    """Every example workflow, run once, in order."""
    return {name: client.run(workflows.shrink(workflows.load_real(name), stand_ins)) for name in workflows.real_names()}


def picture(client, run) -> torch.Tensor:
    files = [file for shown in run.outputs.values() for file in shown.get("images", []) if file["type"] == "output"]
    saved = [file for file in files if file["filename"].startswith("aai_") and file["filename"].endswith(".png")]
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(client.fetch(saved[-1])))).copy())


@pytest.mark.parametrize("name", workflows.real_names())
def test_example_runs_to_a_picture(example_runs, client, name):
    run = example_runs[name]
    assert run.status == "success", run.message
    pixels = picture(client, run).float()
    if name in SIZES:
        assert pixels.shape == SIZES[name]
    assert pixels.std() > 1, "the picture is a single colour"


def test_saved_word_gives_the_same_pixels_without_us(example_runs, client):
    ours, stock = (picture(client, example_runs[name]) for name in ("01 Sound to picture", "02 Saved word"))
    assert torch.equal(ours, stock)


def test_the_word_acts_on_the_picture(example_runs, client, stand_ins):
    prompt = workflows.shrink(workflows.load_real("02 Saved word"), stand_ins)
    prompt["2"]["inputs"]["text"] = "a photo of"
    without = client.run(prompt)
    assert not torch.equal(picture(client, without), picture(client, example_runs["02 Saved word"]))


def test_training_reports_each_step_and_its_losses(example_runs, stand_ins):
    run = example_runs["01 Sound to picture"]
    assert run.progress("8") == list(range(1, stand_ins.steps + 1))
    (losses,) = run.outputs["8"]["aai_losses"]
    assert len(losses) == stand_ins.steps and all(np.isfinite(losses))


def test_the_loss_map_feeds_the_hosts_own_graph(example_runs):
    assert example_runs["01 Sound to picture"].files("9")


def test_the_file_is_an_ordinary_embedding_that_remembers_its_making(example_runs, workspace, stand_ins):
    assert example_runs["01 Sound to picture"].outputs["10"]["text"] == ["embedding:my-sound"]
    with safe_open(workspace.models / "embeddings" / "my-sound.safetensors", framework="pt") as file:
        assert list(file.keys()) == ["clip_l"]
        assert file.get_tensor("clip_l").shape == (1, 768)
        assert file.metadata()["format"] == "aai-audio-token-1"


@pytest.mark.parametrize("name", FORMATS)
def test_recordings_of_every_format(client, stand_ins, name):
    run = client.run(graphs.train(stand_ins, sound=name, duration=3.0))
    assert run.status == "success", run.message


@pytest.mark.parametrize("kind", ["wav", "flac", "opus", "mp3"])
def test_stereo_recordings(client, stand_ins, workspace, recordings, kind):
    """Two real recordings, one in each channel."""
    left, right = (decode_audio(recordings / name)[0][:1, :5000] for name in ("boom.wav", "whiff.wav"))
    stereo = resample(torch.cat([left, right]), 11025, 48000)
    write_encoded(workspace.input / f"stereo.{kind}", stereo, 48000, kind)
    run = client.run(graphs.train(stand_ins, sound=f"stereo.{kind}"))
    assert run.status == "success", run.message


def test_pictures_of_different_sizes_are_one_training_set(client, stand_ins):
    run = client.run(graphs.train(stand_ins, steps=3, pictures=4))
    assert run.status == "success", run.message
    assert run.progress("20") == [1, 2, 3]


def test_the_same_inputs_are_not_trained_again(client, stand_ins):
    graph = graphs.train(stand_ins, steps=2, seed=11, name="cached-word")
    assert client.run(graph).progress("20") == [1, 2]
    again = client.run(graph)
    assert again.status == "success" and again.progress("20") == []


def test_a_copied_node_is_not_trained_again(client, stand_ins):
    """Copy and paste in the editor changes the node's id alone."""
    graph = graphs.train(stand_ins, steps=2, seed=12, name="copied-word")
    assert client.run(graph).progress("20") == [1, 2]
    graph["99"] = graph.pop("20")
    graph["21"]["inputs"]["audio_token"] = ["99", 0]
    copied = client.run(graph)
    assert copied.status == "success" and copied.progress("99") == []
