"""Sounds as they come in, and encoders as people have them: odd AUDIO, silence, tracks of a video, published folders."""

from __future__ import annotations

import comfy.model_management as mm
import numpy as np
import pytest
import torch
import transformers
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.devtools.stand_in import WeightMaker, cavt_tensors, write_cavt
from aai_pack.nodes import align, inject, prompts, view
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.inject import sound_files
from aai_pack.tests import published_twins, sounds
from aai_pack.tests.host import graphs
from aai_pack.tests.host.test_bad_input import assert_readable
from aai_pack.tests.unit.test_audio_damaged import RATE, damage, stairs, write


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cavt") / "stand_in.safetensors"
    write_cavt(path)
    with torch.inference_mode():
        return encoders.load(str(path))


def encode(encoder, waveform: torch.Tensor, rate=16000, **policies) -> torch.Tensor:
    policies = {"short_clip": "tile", "long_clip": "first", **policies}
    with torch.inference_mode():
        return align.AAI_CAVTEncode.execute(encoder, {"waveform": waveform, "sample_rate": rate}, **policies)[0].vectors


TAKERS = {
    "Encode Sound": lambda audio, encoder: align.AAI_CAVTEncode.execute(encoder, audio, "tile", "first"),
    "Look at Sound": lambda audio, encoder: align.AAI_AudioOverview.execute(audio, 400, 300),
    "Loudness Scale": lambda audio, encoder: inject.AAI_LoudnessScale.execute(
        [], "sone", 1.0, -23.0, "<A*>", 0.0, 1.0, "own", audio=audio
    ),
    "Loudness Curve": lambda audio, encoder: prompts.AAI_LoudnessCurve.execute(audio, 8.0, 0, "sone", -23.0),
    "Edit Sheet": lambda audio, encoder: view.AAI_EditSheet.execute(torch.zeros(2, 64, 64, 3), 1, "", audio=audio),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    ("waveform", "rate", "words"),
    [
        (sounds.noise(1, 1, 9000) * 32767, 16000, "samples reach"),
        (sounds.noise(1, 1, 9000) * 1e30, 16000, "samples reach"),
        (sounds.noise(1, 9000, 2), 16000, "9000 channels of 2 samples"),
        (torch.zeros(1, 1, 9000, dtype=torch.int64), 16000, "type int64"),
        (sounds.noise(1, 1, 9000), "16000", "a str"),
        (sounds.noise(1, 1, 9000), None, "a NoneType"),
        (sounds.noise(1, 1, 9000), [16000], "a list"),
    ],
)
def test_audio_that_is_none(encoder, taker, waveform, rate, words):
    with torch.inference_mode(), pytest.raises(AudioError, match=words):
        TAKERS[taker]({"waveform": waveform, "sample_rate": rate}, encoder)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.int16, 2**15), (torch.int32, 2**31)])
def test_integers_are_heard_as_the_same_sound(encoder, dtype, scale):
    sound = sounds.noise(1, 1, 32000)
    whole = (sound.double() * scale).round().to(dtype)
    assert torch.nn.functional.cosine_similarity(encode(encoder, whole), encode(encoder, sound)) > 0.9999
    with torch.inference_mode():
        scales = [TAKERS["Loudness Curve"]({"waveform": w, "sample_rate": 16000}, encoder)[0] for w in (whole, sound)]
    assert scales[0] == pytest.approx(scales[1], abs=1e-3)


def test_opposite_phase_is_heard_as_one_channel(encoder):
    sound = sounds.noise(1, 1, 32000)
    both = encode(encoder, torch.cat([sound, -sound], dim=1))
    assert torch.nn.functional.cosine_similarity(both, encode(encoder, sound)) > 0.95


def test_a_silent_clip_of_a_batch_is_named(encoder):
    batch = sounds.noise(3, 1, 16000)
    assert encode(encoder, batch).shape[0] == 3
    batch[2] = 0.0
    with pytest.raises(AudioError, match=r"Sound 3 of 3 is silent.*out of the batch"):
        encode(encoder, batch)


def test_silence_that_only_the_chosen_part_has(encoder):
    late = torch.cat([torch.zeros(1, 1, 11 * 16000), sounds.noise(1, 1, 16000)], dim=-1)
    with pytest.raises(AudioError, match=r"silent in the 10\.24 s that the encoder uses"):
        encode(encoder, late)
    assert encode(encoder, late, long_clip="loudest").isfinite().all()


def test_a_silent_recording_of_a_folder_is_no_word(encoder, tmp_path):
    sounds.write_wav(tmp_path / "quiet.wav", np.zeros(16000))
    (tmp_path / "._quiet.wav").write_bytes(b"\0\5\x16\7")
    (tmp_path / "song.mid").write_bytes(b"MThd")
    words = sound_files.sound_files(str(tmp_path), encoder, None)
    assert list(words) == ["quiet"]
    with torch.inference_mode(), pytest.raises(AudioError, match=r"^quiet\.wav is silent\."):
        words["quiet"].word()


@pytest.mark.parametrize("value", [0.0, 0.02])
def test_a_file_of_equal_weights_is_no_encoder(tmp_path, value):
    tensors = {name: torch.full_like(tensor, value) for name, tensor in cavt_tensors(WeightMaker(0)).items()}
    torch.save(tensors, tmp_path / "empty.pth")
    with torch.inference_mode(), pytest.raises(CheckpointError, match="hears no difference"):
        encoders.load(str(tmp_path / "empty.pth"))


def test_a_feature_that_is_no_number_goes_nowhere(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "_run", lambda run, batch, tokens: torch.full((batch.shape[0], 768), float("nan")))
    with pytest.raises(AudioError, match="NaN or infinity for part 1 of 1"):
        encode(encoder, sounds.noise(1, 1, 16000))


def test_the_menu_lists_what_the_hosts_own_loader_lists(client, workspace):
    names = [
        f"menu.{suffix}"
        for suffix in ["amr", "3gp", "au", "avi", "m4v", "mpg", "mpeg", "mp3", "ts", "mka", "caf", "wv", "AIFF"]
    ]
    for name in [*names, "menu.mid", "menu.m3u", "menu.txt", "._menu.wav"]:
        (workspace.input / name).write_bytes(b"x")
    try:
        listed = str(client.get("/object_info/AAI_LoadAudio")["AAI_LoadAudio"]["input"]["required"]["audio"])
        stock = str(client.get("/object_info/LoadAudio")["LoadAudio"]["input"]["required"]["audio"])
        assert [name for name in names if repr(name) not in listed] == []
        assert all(name in stock for name in ("menu.amr", "menu.3gp", "menu.au", "menu.avi", "menu.m4v", "menu.mpg"))
        assert not any(name in listed for name in ("menu.mid", "menu.m3u", "menu.txt", "._menu.wav"))
    finally:
        for path in [*workspace.input.glob("menu.*"), *workspace.input.glob("._menu.*")]:
            path.unlink()


def load(name: str, **inputs) -> dict:
    """Load Sound alone, drawn so that the host runs it."""
    return {
        "1": {"class_type": "AAI_LoadAudio", "inputs": {"audio": name, "start": 0.0, "duration": 10.24, **inputs}},
        "2": {"class_type": "AAI_AudioOverview", "inputs": {"audio": ["1", 0], "width": 400, "height": 300}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def test_the_second_sound_track_of_a_video(client, stand_ins, workspace):
    write(workspace.input / "two.mkv", [np.zeros(3 * RATE, np.float32), stairs(3)], picture=True)
    run = client.run(load("two.mkv"))
    assert run.status == "success" and any("sound track 2 of 2" in text for text in run.texts)
    assert client.run(load("two.mkv", stream=2)).status == "success"
    assert_readable(client.run(load("two.mkv", stream=3)), "has 2 sound tracks", "from 0 to 2")
    graph = graphs.hear(stand_ins, sound="two.mkv")
    graph["11"]["inputs"]["stream"] = 1
    graph["20"] = {
        "class_type": "AAI_RetrieveImages",
        "inputs": {
            **{"cavt": ["12", 0], "audio_feature": ["13", 0], "folder": "pictures"},
            **{"k": 1, "minimum_similarity": -1.0, "one_per_source": True},
        },
    }
    graph["21"] = {"class_type": "PreviewImage", "inputs": {"images": ["20", 0]}}
    assert_readable(client.run(graph), "silent")


def test_damage_is_told_on_the_node(client, workspace):
    damage(write(workspace.input / "hurt.mp3", [stairs(8)]), 3.0, 4, 0)
    run = client.run(load("hurt.mp3"))
    assert run.status == "success"
    assert any("packets could not be decoded" in text for text in run.texts), run.texts


def published(workspace, client, name: str, make, *arguments):
    """A twin in models/audio_encoders, listed by the host."""
    folder = workspace.models / "audio_encoders" / name
    if not folder.is_dir():
        make(folder, *arguments)
    assert f"audio_encoders/{name}" in str(client.get("/object_info/AAI_LoadCAVT"))
    return folder


def find(stand_ins, checkpoint: str) -> dict:
    """Load an encoder, hear, train one step."""
    graph = graphs.train(stand_ins, name="published")
    graph["12"]["inputs"]["checkpoint"] = checkpoint
    return graph


@pytest.mark.parametrize("layout", ["fused", "foley", "pe_audio_video", "pe_audio_frame"])
def test_a_published_folder_hears_in_the_host(client, stand_ins, workspace, layout):
    is_pe = layout.startswith("pe_")
    if is_pe and not hasattr(transformers, "PeAudioModel"):
        pytest.skip("this transformers has no PE")
    published(workspace, client, f"twin-{layout}", published_twins.pe if is_pe else published_twins.clap, layout)
    run = client.run(find(stand_ins, f"audio_encoders/twin-{layout}"))
    assert run.status == "success", run.message
    assert any("averaged over the sound" in text for text in run.texts) == (layout == "pe_audio_frame")


def test_a_damaged_folder_says_what_is_wrong(client, stand_ins, workspace):
    folder = published(workspace, client, "twin-cut", published_twins.clap, "larger")
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    assert_readable(client.run(find(stand_ins, "audio_encoders/twin-cut")), "pytorch_model.bin", "cut short")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert_readable(
        client.run(find(stand_ins, "audio_encoders/twin-cut")), "a Git LFS pointer of", "Download the file itself"
    )


def test_laions_training_file_names_the_folder(client, stand_ins, workspace):
    names = ("module.audio_branch.norm.weight", "module.text_branch.pooler.dense.weight")
    content = {"epoch": 1, "state_dict": {name: torch.zeros(2) for name in names}}
    torch.save(content, workspace.models / "cavt_mae" / "630k-audioset-best.pt")
    client.get("/object_info/AAI_LoadCAVT")
    assert_readable(client.run(find(stand_ins, "630k-audioset-best.pt")), "laion/clap-htsat-unfused", "audio_encoders")


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    with torch.inference_mode():
        return encoders.load_any(str(published_twins.clap(tmp_path_factory.mktemp("twin") / "clap")))


class TestHostedTransformers:
    def test_words_and_sounds_in_one_space(self, hosted):
        with torch.inference_mode():
            texts = hosted.texts()
            words = texts.encode([f"dog {k}" for k in range(70)])
            heard = hosted.encode(sounds.noise(1, 1, 48000), 48000)
        assert words.shape == (70, texts.dim) and heard.shape == (1, texts.dim)
        assert (texts.prompt, texts.name) == ("laion", "clap's own texts") and texts.scale == pytest.approx(
            14.2857, abs=1e-3
        )

    def test_the_host_loads_and_unloads_it(self, hosted):
        with torch.inference_mode():
            before = hosted.texts().encode(["dog"])
            assert any(loaded.model is hosted.patcher for loaded in mm.current_loaded_models)
            mm.unload_all_models()
            assert torch.equal(hosted.texts().encode(["dog"]), before)

    def test_a_cancel_between_batches_of_words(self, hosted):
        with torch.inference_mode():
            texts = hosted.texts()
            mm.interrupt_current_processing(True)
            with pytest.raises(mm.InterruptProcessingException):
                texts.encode(["dog"])
            assert texts.encode(["dog"]).isfinite().all()

    def test_without_a_tokenizer(self, tmp_path):
        folder = published_twins.clap(tmp_path / "deaf", "foley")
        (folder / "merges.txt").unlink()
        with torch.inference_mode():
            hosted = encoders.load_any(str(folder))
            assert hosted.encode(sounds.noise(1, 1, 48000), 48000).isfinite().all()
            with pytest.raises(CheckpointError, match="deaf has no tokenizer"):
                hosted.texts()

    def test_empty_weights(self, tmp_path):
        folder = published_twins.clap(tmp_path / "empty", "larger")
        published_twins.change_tensors(folder, lambda tensors: {n: torch.zeros_like(t) for n, t in tensors.items()})
        with torch.inference_mode(), pytest.raises(CheckpointError, match="hears no difference"):
            encoders.load_any(str(folder))
