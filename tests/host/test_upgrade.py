"""Prompts and files of version 0.1.0 in a server with this one; tests/unit/test_upgrade.py reads the files alone."""

from __future__ import annotations

import json
import shutil

import pytest
from aai_pack.devtools import device
from aai_pack.devtools.hosts import OLDEST_VERSION
from aai_pack.tests.unit.test_upgrade import OLD, PROMPTS
from PIL import Image


def is_alike(host) -> bool:
    """Whether the models are computed as where the trainings were made: ComfyUI 0.30.0 on a processor."""
    return host.version != OLDEST_VERSION and device.current() == "cpu"


@pytest.fixture(scope="module")
def upgraded(client, workspace):
    """The server's folders as 0.1.0 left them."""
    photos = workspace.input / "old-photos"
    photos.mkdir()
    for index, name in enumerate("ab"):
        Image.new("RGB", (64, 64), (200 * index, 90, 40)).save(photos / f"{name}.png")
    targets = {
        "embeddings": workspace.models / "embeddings",
        "aai_training": workspace.output / "aai_training",
        "batch": workspace.output / "old-batch",
    }
    for name, target in targets.items():
        shutil.copytree(OLD / name, target, dirs_exist_ok=True)
    client.get("/object_info/AAI_LoadAudioToken")  # the host looks for new files
    yield client
    for name, target in targets.items():
        for path in (OLD / name).iterdir():
            (target / path.name).unlink(missing_ok=True)


def test_a_finished_training_gives_its_word_again(upgraded, host):
    run = upgraded.run(PROMPTS["made"]["train"])
    assert run.status == "success", run.message
    is_known = any("e37fd05d7209ecd81debae57 was already complete" in text for text in run.texts)
    assert is_known == is_alike(host)


def test_a_stopped_training_goes_on(upgraded, host):
    graph = json.loads(json.dumps(PROMPTS["made"]["cut"]))
    graph["5"]["inputs"]["resume_from"] = "c593dd651222ef9fbe50207d"
    run = upgraded.run(graph, on_event=lambda event: event["type"] == "progress" and event["data"]["value"] > 26)
    if is_alike(host):
        assert run.status == "interrupted", run.message
        assert any("continues from step 25" in text for text in run.texts)
    else:
        assert "began with other inputs: " in run.message and "clear `resume_from`" in run.message


def test_words_and_a_batch(upgraded, workspace):
    """The words of 0.1.0 are used, a batch goes on in its folder, and its pictures stay."""
    folder = workspace.output / "old-batch"
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    graph = json.loads(json.dumps(PROMPTS["made"]["batch"]))
    graph["2"]["inputs"]["folder"] = "old-photos"
    run = upgraded.run(graph)
    assert run.status == "success", run.message
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert {path.name for path in folder.glob("*-2__old-frog__x1.00.png")} == {
        "a-2__old-frog__x1.00.png",
        "b-2__old-frog__x1.00.png",
    }
