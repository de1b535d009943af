"""What nodes show of their result: the same pictures and sounds that they put out, on the node itself."""

from __future__ import annotations

import io
import os

import av
import folder_paths
import numpy as np
import pytest
import torch
from aai_pack.nodes import align, pocket, view
from aai_pack.nodes.host.base import shown
from aai_pack.nodes.host.inject.watch import WordMaps
from PIL import Image

SOUND = {"waveform": torch.sin(torch.arange(8000) / 20).reshape(1, 1, -1) / 3, "sample_rate": 8000}


def word_maps() -> WordMaps:
    maps = WordMaps(("sea", "sky"), 1, 2)
    maps.add(0, 0, torch.rand(2, 2, 8, 8))
    return maps


# Each runs a node; beside it, which of its outputs the node shows.
NODES = {
    "Look at Sound": (lambda: align.AAI_AudioOverview.execute(SOUND, 320, 240), 0),
    "Word Heat Map": (lambda: view.AAI_AttentionHeatmap.execute(word_maps(), torch.rand(2, 64, 64, 3), 0.8), 2),
    "Edit Sheet": (lambda: view.AAI_EditSheet.execute(torch.rand(2, 64, 64, 3), 1, "sea\nstorm"), 0),
    "Loudness Strip": (lambda: view.AAI_LoudnessStrip.execute([torch.rand(2, 64, 64, 3)], [0.5, 1.0]), 0),
    "Pocket Scene": (lambda: pocket.AAI_PocketScene.execute("cat", "snow", "blue", "photo", 0.7, 3, 2), 0),
}


def path_of(file: dict) -> str:
    assert file["type"] == "temp"
    return os.path.join(folder_paths.get_temp_directory(), file["subfolder"], file["filename"])


@pytest.mark.parametrize("name", NODES)
def test_pictures_are_those_that_go_out(name):
    run, place = NODES[name]
    done = run()
    files = [path_of(file) for file in done.ui["images"]]
    assert len(files) == len(done.result[place])
    for path, picture in zip(files, done.result[place], strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), (picture.clamp(0, 1) * 255).byte().numpy())


def test_a_pocket_sound_plays():
    done = pocket.AAI_PocketSound.execute("bell", 0.5, 1, 1.0)
    (file,) = done.ui["audio"]
    with av.open(path_of(file)) as container:
        # Packed samples; the oldest host writes one channel as two.
        heard = [frame.to_ndarray().reshape(-1, frame.layout.nb_channels) for frame in container.decode(audio=0)]
    channel = np.concatenate(heard)[:, 0] / 2**15
    made = done.result[0]["waveform"][0, 0].numpy()
    assert channel.shape == made.shape == (16000,)
    assert np.abs(channel / np.abs(channel).max() - made / np.abs(made).max()).max() < 1e-3


def test_a_large_batch_does_not_fill_the_disk():
    files = shown.pictures(torch.zeros(shown.MOST_PICTURES + 6, 8, 8, 3))["images"]
    assert len(files) == shown.MOST_PICTURES


@pytest.mark.parametrize("name", [*NODES, "Pocket Sound"])
def test_a_full_disk_takes_the_picture_and_not_the_result(name, tmp_path, monkeypatch):
    (tmp_path / "full").write_bytes(b"")
    run = NODES[name][0] if name in NODES else lambda: pocket.AAI_PocketSound.execute("bell", 0.5, 1, 1.0)
    torch.manual_seed(1)
    before = run().result
    monkeypatch.setattr(
        folder_paths, "temp_directory", str(tmp_path / "full" / "temp")
    )  # below a file: nobody can write
    torch.manual_seed(1)
    done = run()
    assert done.ui == {}
    for one, other in zip(before, done.result, strict=True):
        same = (one["waveform"], other["waveform"]) if isinstance(one, dict) else (one, other)
        assert torch.equal(*same)


def test_what_looks_runs_without_a_node_behind_it(client, stand_ins):
    """Nodes whose whole purpose is to be looked at run where they end a workflow; the picture is fetched as the editor does."""
    graph = {
        "1": {"class_type": "AAI_PocketSound", "inputs": {"thing": "bell", "loudness": 0.5, "seed": 1}},
        "2": {"class_type": "AAI_AudioOverview", "inputs": {"audio": ["1", 0], "width": 320, "height": 240}},
    }
    run = client.run(graph)
    assert run.status == "success", run.message
    (picture,) = run.files("2")
    assert Image.open(io.BytesIO(client.fetch(picture))).size == (320, 240)
    (sound,) = run.files("1", "audio")
    assert client.fetch(sound).startswith(b"fLaC")
