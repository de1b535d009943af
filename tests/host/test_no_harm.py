"""An ordinary workflow gives the same bits with the pack absent, present, and after anything that happened to a training."""

from __future__ import annotations

import random

import pytest
import torch
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.devtools.client import Client
from aai_pack.devtools.server import Server, Workspace
from aai_pack.devtools.stand_in import install
from aai_pack.tests.host import graphs
from safetensors.torch import load


def stock_latent(client, stand_ins, seed: int = 7) -> torch.Tensor:
    # Another seed first: a result that comes from the host's cache would prove nothing.
    client.run(graphs.stock(stand_ins, seed=seed + 1000, batch=2))
    run = client.run(graphs.stock(stand_ins, seed=seed, batch=2))
    assert run.status == "success", run.message
    cached = {n for e in run.events if e["type"] == "execution_cached" for n in e["data"]["nodes"]}
    assert "5" not in cached
    (file,) = run.outputs["6"]["latents"]
    return load(client.fetch(file))["latent_tensor"]


@pytest.fixture(scope="module")
def latent_without_the_pack(host, recordings):
    with Workspace(pack=False) as workspace:
        stand_ins = install(workspace, recordings)
        with Server(host, workspace) as server:
            client = Client(server.url)
            assert not [name for name in client.get("/object_info") if name.startswith("AAI_")]
            return stock_latent(client, stand_ins)


def test_pack_present(client, stand_ins, latent_without_the_pack):
    assert [name for name in client.get("/object_info") if name.startswith("AAI_")]
    assert latent_without_the_pack.std() > 0.1
    assert torch.equal(stock_latent(client, stand_ins), latent_without_the_pack)


def test_after_training(client, stand_ins, latent_without_the_pack):
    assert client.run(graphs.train(stand_ins, steps=3, seed=21)).status == "success"
    assert torch.equal(stock_latent(client, stand_ins), latent_without_the_pack)


@pytest.mark.parametrize("attempt", range(3))
def test_after_cancelling_at_a_random_step(client, stand_ins, latent_without_the_pack, attempt):
    step = random.Random(attempt).randint(1, 10)

    def reached(event):
        data = event["data"]
        return event["type"] == "progress" and data.get("node") == "20" and data["value"] >= step

    run = client.run(graphs.train(stand_ins, steps=500, seed=31 + attempt), on_event=reached)
    assert run.status == "interrupted"
    assert run.progress("20")[-1] <= step + 2, "a cancel must end within two steps"
    assert torch.equal(stock_latent(client, stand_ins), latent_without_the_pack)


def test_after_an_error_in_the_middle(client, stand_ins, latent_without_the_pack):
    graph = graphs.train(stand_ins, steps=50, seed=41)
    # So large a step throws the word out of what floats can hold, after training began.
    graph["20"]["inputs"]["learning_rate"] = 1.0
    graph["20"]["inputs"]["prompt"] = "(<A*>:1e38) photo"
    run = client.run(graph)
    assert run.status == "error"
    assert "must not be NaN" in run.message
    assert torch.equal(stock_latent(client, stand_ins), latent_without_the_pack)


def test_a_cancelled_training_keeps_its_best_word_and_says_where(client, stand_ins, workspace):
    graph = graphs.train(stand_ins, steps=500, seed=51)
    run = client.run(graph, on_event=lambda e: e["type"] == "progress" and e["data"].get("value") == 4)
    assert run.status == "interrupted"
    (message,) = [event["data"]["text"] for event in run.events if event["type"] == "aai.message"]
    assert "cancelled after" in message and any("cancelled after" in text for text in run.texts)
    name = message.split(" is its best token")[0].removeprefix("output/")
    kept = workspace.output / name
    assert kept.is_file()
    (workspace.models / "embeddings" / "kept.safetensors").write_bytes(kept.read_bytes())
    used = client.run(graphs.stock(stand_ins, text="a photo of embedding:kept"))
    assert used.status == "success", used.message


def test_a_word_of_a_cancelled_training_is_offered(client, stand_ins, workspace):
    graph = graphs.train(stand_ins, steps=500, seed=52)
    assert (
        client.run(graph, on_event=lambda e: e["type"] == "progress" and e["data"].get("value") == 2).status
        != "success"
    )
    kept = max((workspace.output / "aai_tokens").glob("*-step*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    run, step = kept.stem.split("-step")
    (_, menu) = client.get("/object_info/AAI_LoadAudioToken")["AAI_LoadAudioToken"]["input"]["required"]["name"]
    name = f"unfinished: a photo of <A*>, step {step} ({run[:6]})"
    assert name in menu["options"]
    load = {
        "1": {"class_type": "AAI_LoadAudioToken", "inputs": {"name": name}},
        "2": {
            "class_type": "AAI_SaveAudioToken",
            "inputs": {"audio_token": ["1", 0], "name": "from-unfinished", "if_exists": "replace"},
        },
    }
    assert client.run(load).status == "success"
    vectors = [
        AudioToken.load(path).vectors for path in (kept, workspace.models / "embeddings/from-unfinished.safetensors")
    ]
    assert torch.equal(*(word["clip_l"] for word in vectors))
    kept.unlink()
    gone = client.run(load)
    assert "Press R, or choose another word" in gone.message, gone.message
