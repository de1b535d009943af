"""Hearing in the host: the encoder under the host's memory management, pictures found for a sound, sounds drawn."""

from __future__ import annotations

import io

import comfy.model_management as mm
import comfy.ops
import numpy as np
import pytest
import torch
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.images import open_picture
from aai_pack.aai_models.align.library import INDEX_NAME
from aai_pack.aai_models.errors import LibraryError
from aai_pack.devtools.stand_in import WeightMaker, cavt_tensors, write_cavt
from aai_pack.nodes.host.base.types import AudioFeature
from aai_pack.nodes.host.hear import encoders, pictures
from aai_pack.tests import sounds
from aai_pack.tests.host import graphs
from aai_pack.tests.host.test_bad_input import assert_readable
from aai_pack.tests.unit.test_encoders import save_clap
from PIL import Image


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cavt") / "stand_in.pth"
    write_cavt(path)
    with torch.inference_mode():
        return encoders.load(str(path))


def hosted(dtype) -> encoders.HostedCAVT:
    with torch.inference_mode():
        model = CAVTMAE.from_state_dict(cavt_tensors(WeightMaker(0)), operations=comfy.ops.manual_cast, dtype=dtype)
        return encoders.HostedCAVT(model, "x", "x")


def hear(encoder, clips: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.encode(clips, 16000)


def test_in_the_host_it_hears_what_it_hears_outside(encoder):
    clips = sounds.noise(3, 1, 40000)
    from aai_pack.aai_models.align.encoders import CAVTEncoder

    plain = CAVTEncoder(CAVTMAE.from_state_dict(cavt_tensors(WeightMaker(0)), dtype=torch.float32))
    assert torch.allclose(hear(encoder, clips), plain.encode(clips, 16000), atol=1e-5)


def test_several_clips_in_one_pass_equal_a_loop(encoder):
    clips = sounds.noise(encoders.BATCH + 3, 1, 20000)
    apart = torch.cat([hear(encoder, clip[None]) for clip in clips])
    assert torch.allclose(hear(encoder, clips), apart, atol=1e-5)


def test_half_precision_weights_with_full_precision_features():
    clips = sounds.noise(2, 1, 40000)
    light = hosted(torch.float16)
    half, full = hear(light, clips), hear(hosted(torch.float32), clips)
    assert {p.dtype for p in light.model.parameters()} == {torch.float16}
    assert half.dtype == torch.float32 and torch.allclose(half, full, atol=2e-2)


def test_a_partial_load_gives_the_same(encoder):
    """As where memory is short: some layers stay behind and are cast when they are used."""
    clips = sounds.noise(1, 1, 40000)
    whole = hear(encoder, clips)
    mm.unload_all_models()
    patcher = encoder.patcher
    with torch.inference_mode():
        patcher.patch_model(device_to=torch.device("cpu"), lowvram_model_memory=patcher.model_size() // 3)
        assert 0 < patcher.loaded_size() < patcher.model_size() and encoder.model.model_lowvram
        fbank = encoders.encoder_input(clips, 16000)
        assert torch.allclose(encoder.model.encode_audio(fbank), whole, atol=1e-6)
        patcher.unpatch_model(torch.device("cpu"))


def test_the_host_loads_and_unloads_it(encoder):
    hear(encoder, sounds.noise(1, 1, 16000))
    assert any(loaded.model is encoder.patcher for loaded in mm.current_loaded_models)
    mm.unload_all_models()
    assert not any(loaded.model is encoder.patcher for loaded in mm.current_loaded_models)
    assert encoder.get_ram_usage() > 2**20


def test_a_cancel_between_batches(encoder, monkeypatch):
    passes = []
    run = encoder._run

    def counted(*arguments):
        passes.append(1)
        result = run(*arguments)
        mm.interrupt_current_processing(True)
        return result

    monkeypatch.setattr(encoder, "_run", counted)
    with pytest.raises(mm.InterruptProcessingException):
        hear(encoder, sounds.noise(3 * encoders.BATCH, 1, 2000))
    assert len(passes) == 2
    mm.interrupt_current_processing(False)
    monkeypatch.undo()
    assert hear(encoder, sounds.noise(1, 1, 2000)).shape == (1, 768)


def find(stand_ins, *, folder="pictures", k=4, minimum=-1.0, **inputs) -> dict:
    graph = graphs.hear(stand_ins)
    values = {"folder": folder, "k": k, "minimum_similarity": minimum, "one_per_source": True, **inputs}
    graph["40"] = {
        "class_type": "AAI_RetrieveImages",
        "inputs": {"cavt": ["12", 0], "audio_feature": ["13", 0], **values},
    }
    graph["41"] = {"class_type": "PreviewImage", "inputs": {"images": ["40", 0]}}
    graph["42"] = {"class_type": "PreviewImage", "inputs": {"images": ["40", 1]}}
    return graph


class TestRetrieval:
    def test_k_pictures_and_their_sheet(self, client, stand_ins):
        for k in (1, 4):
            run = client.run(find(stand_ins, k=k))
            assert run.status == "success", run.message
            assert len(run.files("41")) == k and len(run.files("42")) == 1

    def test_pictures_keep_their_sizes(self, client, stand_ins, workspace):
        run = client.run(find(stand_ins, k=9))
        sizes = {Image.open(io.BytesIO(client.fetch(file))).size for file in run.files("41")}
        assert sizes == {Image.open(path).size for path in (workspace.input / "pictures").glob("*.png")}

    def test_only_new_pictures_are_looked_at(self, client, stand_ins, workspace):
        folder = workspace.input / "growing"
        folder.mkdir()
        for index in range(3):
            Image.new("RGB", (90, 60), (40 * index, 99, 10)).save(folder / f"{index}.png")
        first = client.run(find(stand_ins, folder="growing", k=64))
        assert len(first.files("41")) == 3 and first.progress("40")[-1] == 3
        assert any("3 of 3 pictures, " in text and "per second" in text for text in first.texts)
        again = client.run(find(stand_ins, folder="growing", k=64))
        assert again.progress("40") == []
        Image.new("RGB", (30, 60)).save(folder / "new.png")
        (folder / "broken.png").write_text("x")
        grown = client.run(find(stand_ins, folder="growing", k=64))
        assert len(grown.files("41")) == 4
        assert any(
            "4 pictures: 1 added, 3 kept" in t and "cannot be read as a picture (broken.png)" in t for t in grown.texts
        )
        assert not list(folder.glob(".*")), "nothing is written among the pictures"

    def test_a_picture_that_went_meanwhile_is_passed_over(self, encoder, tmp_path, monkeypatch):
        for index in range(4):
            Image.new("RGB", (40, 40), (60 * index, 90, 200)).save(tmp_path / f"{index}.png")
        heard = AudioFeature(hear(encoder, sounds.noise(1, 1, 16000)), encoder.name, (-20.0,))
        monkeypatch.setattr(pictures.folders, "library_index", lambda folder: folder / INDEX_NAME)
        monkeypatch.setattr(pictures, "tell", lambda text: None)
        all_four = pictures.find_for_sound(encoder, heard, str(tmp_path), 4, -1.0, True, [])
        best = all_four.scores[0]

        def read(path):
            opened.append(path)
            if len(opened) == 1 or gone:
                path.unlink()
            return open_picture(path)

        opened, gone = [], False
        monkeypatch.setattr(pictures, "open_picture", read)
        found = pictures.find_for_sound(encoder, heard, str(tmp_path), 2, -1.0, True, [])
        assert len(found.images) == 2 and found.scores == all_four.scores[1:3] and best not in found.scores
        gone = True
        with pytest.raises(LibraryError, match="cannot be read any more"):
            pictures.find_for_sound(encoder, heard, str(tmp_path), 2, -1.0, True, [])

    def test_own_pictures_come_first(self, client, stand_ins):
        graph = find(stand_ins, k=3, own_pictures=["43", 0])
        graph["43"] = {"class_type": "LoadImage", "inputs": {"image": stand_ins.references[0]}}
        run = client.run(graph)
        assert len(run.files("41")) == 3
        own = np.asarray(Image.open(io.BytesIO(client.fetch(run.files("41")[0]))))
        graph["44"] = {"class_type": "PreviewImage", "inputs": {"images": ["43", 0]}}
        (shown,) = client.run(graph).files("44")
        assert np.array_equal(own, np.asarray(Image.open(io.BytesIO(client.fetch(shown)))))
        graph["40"]["inputs"] |= {"k": 1, "folder": "is never opened"}
        assert client.run(graph).status == "success"

    @pytest.mark.parametrize(
        "folder",
        ["", "nowhere", "../../nowhere", "a\0b", "pictures/aai_reference_1.png", pytest.param("x" * 300, id="x")],
    )
    def test_folders_that_are_none(self, client, stand_ins, folder):
        assert_readable(client.run(find(stand_ins, folder=folder)), "There is no folder", "Correct the name")

    def test_an_empty_folder(self, client, stand_ins, workspace):
        (workspace.input / "empty").mkdir(exist_ok=True)
        assert_readable(client.run(find(stand_ins, folder="empty")), "holds no picture")

    def test_nothing_similar_enough(self, client, stand_ins):
        assert_readable(client.run(find(stand_ins, minimum=1.0)), "a similarity of 1 or more", "Lower")

    def test_an_encoder_that_does_not_see(self, client, stand_ins, workspace):
        torch.save(cavt_tensors(WeightMaker(0), images=False), workspace.models / "cavt_mae" / "audio_only.pth")
        client.get("/object_info/AAI_LoadCAVT")
        graph = find(stand_ins)
        graph["12"]["inputs"]["checkpoint"] = "audio_only.pth"
        assert_readable(client.run(graph), "cannot encode pictures", "both towers", "or ImageBind")
        graph["43"] = {"class_type": "LoadImage", "inputs": {"image": stand_ins.references[0]}}
        graph["40"]["inputs"] |= {"k": 2, "own_pictures": ["43", 0]}
        assert_readable(client.run(graph), "cannot encode pictures", "`own_pictures` as `k` says: 2")
        graph["40"]["inputs"] |= {"k": 1}
        assert client.run(graph).status == "success"

    def test_two_encoders_are_not_mixed(self, client, stand_ins, workspace):
        write_cavt(workspace.models / "cavt_mae" / "other.pth", seed=5)
        client.get("/object_info/AAI_LoadCAVT")
        graph = find(stand_ins)
        graph["50"] = {"class_type": "AAI_LoadCAVT", "inputs": {"checkpoint": "other.pth"}}
        graph["40"]["inputs"]["cavt"] = ["50", 0]
        assert_readable(client.run(graph), "other.pth", "same Load Audio Encoder (AAI)")


def test_another_encoder_makes_a_word_too(client, stand_ins, workspace):
    """CLAP's feature is 512 wide in earnest, 24 here; the word is as wide as the text encoder wants it."""
    save_clap(workspace.models / "audio_encoders" / "tiny-clap")
    choices = client.get("/object_info/AAI_LoadCAVT")["AAI_LoadCAVT"]["input"]["required"]["checkpoint"]
    assert "audio_encoders/tiny-clap" in str(choices)
    graph = graphs.train(stand_ins, name="clap-word")
    graph["12"]["inputs"]["checkpoint"] = "audio_encoders/tiny-clap"
    run = client.run(graph)
    assert run.status == "success", run.message


def test_a_sound_is_drawn(client, stand_ins):
    graph = graphs.hear(stand_ins)
    graph["60"] = {"class_type": "AAI_AudioOverview", "inputs": {"audio": ["11", 0], "width": 640, "height": 400}}
    graph["61"] = {"class_type": "PreviewImage", "inputs": {"images": ["60", 0]}}
    run = client.run(graph)
    (file,) = run.files("61")
    pixels = np.asarray(Image.open(io.BytesIO(client.fetch(file))).convert("RGB"))
    assert pixels.shape == (400, 640, 3) and pixels.std() > 10
