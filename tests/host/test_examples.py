"""Every example over HTTP on a server where nothing of ours was put, on each supported host; and the pictures that ship."""

from __future__ import annotations

import io
import urllib.request
from urllib.parse import quote

import numpy as np
import pytest
from aai_pack.devtools import shipped_pictures, workflows
from aai_pack.devtools.client import Client
from aai_pack.devtools.server import PACK_FOLDER, Server, Workspace
from aai_pack.tests.shortened import shortened
from PIL import Image


@pytest.fixture(scope="module")
def fresh(host):
    with Workspace() as workspace, Server(host, workspace) as server:
        yield server


@pytest.mark.parametrize("name", workflows.names())
def test_it_runs_on_a_fresh_install(fresh, name):
    run = Client(fresh.url).run(shortened(workflows.load_api(name)))
    assert run.status == "success", run.message
    saved = [file for shown in run.outputs.values() for file in shown.get("images", []) if file["type"] == "output"]
    assert saved


def test_a_word_is_saved_before_it_is_read(fresh):
    """Example 02 writes `embedding:name` with the name that it has just saved: the picture is that of the word."""
    prompt = shortened(workflows.load_api("02 Saved word"))
    client = Client(fresh.url)
    prompt["11"]["inputs"]["name"] = "never-saved-before"
    with_word = client.run(prompt)
    plain = {**prompt, "2": {**prompt["2"], "inputs": {**prompt["2"]["inputs"], "text": "a photo of a"}}}
    without = client.run(plain)
    first, second = (client.fetch(run.outputs["7"]["images"][0]) for run in (with_word, without))
    assert first != second
    assert (fresh.workspace.models / "embeddings" / "never-saved-before.safetensors").is_file()


def test_the_template_dialog_gets_files_and_pictures(fresh):
    offered = Client(fresh.url).get("/workflow_templates")
    assert sorted(offered[PACK_FOLDER]) == workflows.names()
    for name in workflows.names():
        with urllib.request.urlopen(f"{fresh.url}/api/workflow_templates/{PACK_FOLDER}/{quote(name)}.jpg") as answer:
            assert answer.headers.get_content_type() == "image/jpeg"


def test_the_pictures_that_ship_are_what_the_pocket_world_draws():
    from aai_pack.nodes.host.pocket.scenes import draw_scene

    scenes = shipped_pictures.scenes()
    there = {path.relative_to(shipped_pictures.FOLDER) for path in shipped_pictures.FOLDER.rglob("*.png")}
    assert there == set(scenes)
    for path, scene in scenes.items():
        (drawn,), _ = draw_scene(**scene)
        with Image.open(shipped_pictures.FOLDER / path) as picture:
            assert not picture.info, "the file carries more than its pixels"
            assert np.array_equal(np.asarray(picture), (drawn.numpy() * 255).round().astype(np.uint8)), path


def test_a_folder_of_ones_own_comes_before_the_one_that_ships(tmp_path, monkeypatch):
    import folder_paths
    from aai_pack.nodes.host.base import folders

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    assert folders.picture_folder(' "pocket photos" ') == (shipped_pictures.FOLDER / "photos").resolve()
    (tmp_path / "pocket photos").mkdir()
    assert folders.picture_folder("pocket photos") == (tmp_path / "pocket photos").resolve()
    with pytest.raises(Exception, match="pocket pictures"):
        folders.picture_folder("no such folder")


def test_the_encoder_that_ships_can_be_loaded_alone(fresh):
    """Load CAVT-MAE offers it, also where no file lies, and it hears as Pocket Models does."""
    client = Client(fresh.url)
    kind, *options = client.get("/object_info/AAI_LoadCAVT")["AAI_LoadCAVT"]["input"]["required"]["checkpoint"]
    choices = kind if isinstance(kind, list) else options[0]["options"]
    assert choices == ["came with the pack"]
    prompt = shortened(workflows.load_api("11 Four pictures at once"))
    expected = client.run(prompt).outputs["10"]["images"]
    prompt["20"] = {"class_type": "AAI_LoadCAVT", "inputs": {"checkpoint": "came with the pack"}}
    prompt["3"]["inputs"]["cavt"] = ["20", 0]
    found = client.run(prompt).outputs["10"]["images"]
    pixels = [
        [np.asarray(Image.open(io.BytesIO(client.fetch(file)))) for file in pictures] for pictures in (expected, found)
    ]
    assert all(np.array_equal(one, other) for one, other in zip(*pixels, strict=True))
