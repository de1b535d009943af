"""What was heard, as a person has it: weights made late and moved, two encoders at once, memory short, and over HTTP."""

from __future__ import annotations

import copy
import importlib.util

import comfy.model_management as mm
import pytest
import torch
from aai_pack.devtools import workflows
from aai_pack.nodes.host.adapt import kept_texts
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.hear.features import hear
from aai_pack.nodes.words import AAI_WordFromSound
from aai_pack.tests import published_twins, sounds
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_bad_input import assert_readable

HAS_LATE = importlib.util.find_spec("comfy.memory_management") is not None
HAS_PE = importlib.util.find_spec("transformers.models.pe_audio") is not None
KINDS = ["unfused", "fused", "larger", "pe_audio_video", "pe_audio_frame"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base, made = tmp_path_factory.mktemp("twins"), {}

    def folder(kind: str):
        if kind.startswith("pe") and not HAS_PE:
            pytest.skip("transformers of this host has no PE")
        make = published_twins.pe if kind.startswith("pe") else published_twins.clap
        if kind not in made:
            made[kind] = make(base / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def clip():
    return micro.build("sdxl")[1]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_texts.folder_paths, "get_user_directory", lambda: str(tmp_path))


def word(ear, clip, labels: str = "dog\nrain\nchurch bell"):
    with torch.inference_mode():
        feature = hear(ear, sounds.noise(1, 1, 16000), 16000, short_clip="tile", long_clip="first")
        token, said = AAI_WordFromSound.execute(clip, feature, 1.0, 0, "auto", labels=labels).result
    return token.vectors, said


def load(folder):
    with torch.inference_mode():
        return encoders.load_any(str(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_late_weights_and_a_host_that_has_unloaded_all(folders, clip, kind, monkeypatch):
    expected, said = word(load(folders(kind)), clip)
    if HAS_LATE:
        monkeypatch.setattr("comfy.memory_management.aimdo_enabled", True)
    ear = load(folders(kind))
    mm.unload_all_models()
    kept_texts._path(ear.aligned_text(None), ("dog", "rain", "church bell")).unlink()
    mm.unload_all_models()
    found, again = word(ear, clip)
    assert again == said and all(torch.equal(found[key], rows) for key, rows in expected.items())


def test_two_at_once_do_not_mix(folders, clip):
    first, second = load(folders("unfused")), load(folders("larger"))
    alone = word(first, clip)[1]
    other, again = word(second, clip)[1], word(first, clip)[1]
    assert alone == again != other and "unfused's own texts" in alone and "larger's own texts" in other


def test_memory_is_given_back(folders, clip):
    ear = load(folders("unfused"))
    word(ear, clip)
    assert any(loaded.model is ear.patcher for loaded in mm.current_loaded_models)
    mm.unload_all_models()
    assert not any(loaded.model is ear.patcher for loaded in mm.current_loaded_models)
    assert all(p.device == ear.patcher.offload_device for p in ear.encoder.model.parameters())


class TestOverHttp:
    """Example 6 with a CLAP in its folder: run, read, correct, run again."""

    @pytest.fixture(scope="class", autouse=True)
    def twin(self, workspace, client):
        folder = workspace.models / "audio_encoders" / "twin-of-labels"
        published_twins.clap(folder)
        client.get("/object_info/AAI_LoadCAVT")  # the menu looks into the folder again

    def graph(self, stand_ins, **inputs) -> dict:
        graph = workflows.shrink(workflows.load_real("06 Word without training"), stand_ins)
        graph = copy.deepcopy(graph)
        for node in graph.values():
            if node["class_type"] == "AAI_LoadCAVT":
                node["inputs"]["checkpoint"] = "audio_encoders/twin-of-labels"
            if node["class_type"] == "AAI_WordFromSound":
                assert node["inputs"]["bridge"] == "auto"
                node["inputs"].update(inputs)
        return graph

    def test_run_read_correct(self, client, stand_ins):
        run = client.run(self.graph(stand_ins))
        assert run.status == "success", run.message
        (said,) = run.outputs["5"]["text"]
        assert "Heard: " in said and "among 229 labels, compared by twin-of-labels's own texts" in said
        corrected = client.run(self.graph(stand_ins, words="it is a kettle"))
        assert corrected.status == "success", corrected.message
        assert corrected.outputs["5"]["text"][0].startswith("Drawn as written: kettle.")

    def test_bad_lists(self, client, stand_ins):
        assert_readable(client.run(self.graph(stand_ins, labels="---")), "holds no word", "a line each")
        assert_readable(client.run(self.graph(stand_ins, words="wolf 0, wind 0")), "are 0", "wolf 0.7, wind 0.3")
        assert_readable(client.run(self.graph(stand_ins, labels="T\ufffdr")), "wrong encoding", "UTF-8")
