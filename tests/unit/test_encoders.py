"""Encoders behind one interface, on tiny random models of the real classes."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil

import pytest
import torch
import torch.nn.functional as F
import transformers
from aai_pack.aai_models.align import published_folders
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.encoders import AudioEncoder, CAVTEncoder, TransformersEncoder
from aai_pack.aai_models.align.foreign_files import explain_file
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.devtools.stand_in import WeightMaker, cavt_tensors
from aai_pack.tests import published_twins, sounds


def save_clap(folder) -> None:
    published_twins.clap(folder)


needs_pe = pytest.mark.skipif(not hasattr(transformers, "PeAudioModel"), reason="this transformers has no PE")
CLAPS = ("unfused", "fused", "larger", "foley", "ldm")
PES = ("pe_audio", "pe_audio_frame", "pe_audio_video")
LAYOUTS = [*CLAPS, *(pytest.param(layout, marks=needs_pe) for layout in PES)]


def write_twin(folder, layout: str):
    return (published_twins.clap if layout in CLAPS else published_twins.pe)(folder, layout)


@pytest.fixture(scope="module", params=["cavt", *LAYOUTS])
def encoder(request, tmp_path_factory):
    if request.param == "cavt":
        return CAVTEncoder(CAVTMAE.from_state_dict(cavt_tensors(WeightMaker(0)), dtype=torch.float32))
    return TransformersEncoder.from_folder(write_twin(tmp_path_factory.mktemp(request.param), request.param))


def test_interface(encoder):
    assert isinstance(encoder, AudioEncoder)
    features = encoder.encode(sounds.noise(2, 1, 16000), 16000)
    assert features.shape == (2, encoder.dim) and features.dtype == torch.float32
    assert torch.allclose(features.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert encoder.has_images == isinstance(encoder, CAVTEncoder)


@pytest.mark.parametrize(
    ("shape", "rate"), [((1, 1, 700), 16000), ((1, 8, 9600), 192000), ((1, 2, 600_000), 44100), ((1, 1, 400), 384000)]
)
def test_any_sound(encoder, shape, rate):
    features = encoder.encode(sounds.noise(*shape), rate)
    assert features.shape == (1, encoder.dim) and torch.isfinite(features).all()


def test_it_hears_the_same_twice_and_another_sound_as_another(encoder):
    long = sounds.noise(1, 1, 20 * 16000)  # longer than any encoder hears
    assert torch.equal(encoder.encode(long, 16000), encoder.encode(long, 16000))
    assert not torch.allclose(encoder.encode(sounds.tone(2.0)[None], 48000), encoder.encode(long, 16000), atol=1e-3)


def test_batch_equals_loop(encoder):
    clip = sounds.noise(3, 1, 32000)
    apart = torch.cat([encoder.encode(row[None], 16000) for row in clip])
    assert torch.allclose(encoder.encode(clip, 16000), apart, atol=1e-4)


def test_policies(encoder):
    quiet_then_loud = torch.cat([sounds.noise(1, 1, 12 * 16000, scale=0.001), sounds.tone(12.0, 16000)[None]], dim=-1)
    heard = {p: encoder.encode(quiet_then_loud, 16000, long_clip=p) for p in ("first", "loudest", "mean_of_windows")}
    assert all(f.shape == (1, encoder.dim) for f in heard.values())
    assert not torch.equal(heard["first"], heard["loudest"])
    clip = sounds.noise(1, 1, 16000)
    loud, soft = (encoder.encode(gain * clip, 16000, level="normalised") for gain in (1.0, 0.01))
    assert torch.allclose(loud, soft, atol=1e-3)
    with pytest.raises(ValueError, match="known are"):
        encoder.encode(quiet_then_loud, 16000, long_clip="last")
    with pytest.raises(ValueError, match="level is"):
        encoder.encode(clip, 16000, level="loud")


def test_no_sound_is_refused(encoder):
    with pytest.raises(AudioError):
        encoder.encode(torch.full((1, 1, 500), float("nan")), 16000)


@pytest.fixture
def twin(tmp_path, request):
    return write_twin(tmp_path / "published", getattr(request, "param", "unfused"))


def refusal(folder) -> str:
    with pytest.raises(CheckpointError) as caught:
        TransformersEncoder.from_folder(folder)
    message = str(caught.value)
    assert len(message) < 600 and "Traceback" not in message
    return message


class TestFolders:
    def test_missing_parts(self, tmp_path):
        assert "no readable config.json" in refusal(tmp_path)
        for text in ("{", "[1]", "\0"):
            (tmp_path / "config.json").write_text(text)
            assert "no readable config.json" in refusal(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        assert "'bert' model. Known audio encoders are clap, pe_audio, pe_audio_video" in refusal(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"}))
        assert "has no weights. It needs model.safetensors or pytorch_model.bin" in refusal(tmp_path)

    @pytest.mark.parametrize("twin", LAYOUTS, indirect=True)
    @pytest.mark.parametrize("count", [1, 12])
    def test_missing_tensors_would_be_random(self, twin, count):
        def is_read(name: str) -> bool:
            return name.startswith(("audio_model.", "audio_encoder.")) and name.endswith("weight")

        gone = []

        def without(tensors):
            gone.extend(sorted(filter(is_read, tensors))[:count])
            return {name: tensor for name, tensor in tensors.items() if name not in gone}

        published_twins.change_tensors(twin, without)
        assert len(gone) == count
        found = re.search(r"published lacks (\d+) tensors?, the first is (\S+)\. .* random", refusal(twin))
        assert found and int(found[1]) == count and gone[0].endswith(found[2])

    @pytest.mark.parametrize("twin", ["larger", pytest.param("pe_audio", marks=needs_pe)], indirect=True)
    def test_a_text_tower_alone(self, twin):
        published_twins.change_tensors(twin, lambda t: {n: v for n, v in t.items() if n.startswith("text_")})
        message = refusal(twin)
        assert re.search(r"lacks \d\d+ tensors, the first is audio_", message), message

    def test_weights_of_another_size(self, twin):
        config = json.loads((twin / "config.json").read_text())
        config["projection_dim"] = config["audio_config"]["projection_dim"] = config["text_config"][
            "projection_dim"
        ] = 12
        (twin / "config.json").write_text(json.dumps(config))
        assert "another size than its config.json says, the first is audio_projection." in refusal(twin)

    @pytest.mark.parametrize("twin", ["fused"], indirect=True)
    def test_a_fused_batch_repeats_and_equals_a_loop(self, twin):
        encoder, clips = TransformersEncoder.from_folder(twin), sounds.noise(5, 1, 48000)
        first = encoder.encode(clips, 48000)
        assert all(torch.equal(encoder.encode(clips, 48000), first) for _ in range(3))
        assert torch.allclose(torch.cat([encoder.encode(clip[None], 48000) for clip in clips]), first, atol=1e-5)
        long = sounds.noise(1, 1, 35 * 48000)
        heard = [encoder.encode(long, 48000, long_clip="mean_of_windows") for _ in range(3)]
        assert torch.equal(heard[0], heard[1]) and torch.equal(heard[0], heard[2])

    @pytest.mark.parametrize("twin", ["ldm"], indirect=True)
    def test_float64_becomes_float32(self, twin):
        encoder = TransformersEncoder.from_folder(twin)
        assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
        assert {b.dtype for b in encoder.model.buffers() if b.is_floating_point()} == {torch.float32}

    @pytest.mark.parametrize("twin", ["foley"], indirect=True)
    def test_without_an_extractors_config_the_usual_one_hears(self, twin, tmp_path):
        (whole := tmp_path / "whole").mkdir()
        for path in twin.iterdir():
            shutil.copy(path, whole)
        published_twins.write_json(
            whole / "preprocessor_config.json", {**published_twins.PREPROCESSOR, "truncation": "rand_trunc"}
        )
        clip = sounds.noise(1, 1, 48000)
        both = [TransformersEncoder.from_folder(folder).encode(clip, 48000) for folder in (twin, whole)]
        assert torch.equal(*both)
        (whole / "preprocessor_config.json").write_text("{")
        assert "feature extractor of whole cannot be read" in refusal(whole)

    @needs_pe
    def test_the_audio_half_of_a_video_model_is_the_audio_model(self, tmp_path):
        alone, both = (write_twin(tmp_path / name, name) for name in ("pe_audio", "pe_audio_video"))
        clip = sounds.noise(2, 1, 48000)
        heard = [TransformersEncoder.from_folder(folder) for folder in (alone, both)]
        assert torch.equal(heard[0].encode(clip, 48000), heard[1].encode(clip, 48000))
        assert heard[0].note == heard[1].note == ""

    @needs_pe
    def test_a_frame_level_model_averages_its_frames(self, tmp_path):
        encoder = TransformersEncoder.from_folder(write_twin(tmp_path / "frames", "pe_audio_frame"))
        assert type(encoder.model).__name__ == "PeAudioFrameLevelModel" and "averaged over the sound" in encoder.note
        clip = sounds.noise(1, 1, 48000)
        with torch.inference_mode():
            frames = encoder.model.get_audio_embeds(**encoder._extract(list(clip[0].numpy()), "tile"))
        assert frames.shape[1] > 3
        expected = F.normalize(F.normalize(frames, dim=-1).mean(dim=1), dim=-1)
        assert torch.allclose(encoder.encode(clip, 48000), expected, atol=1e-5)

    def test_the_branch_of_the_original_code(self, tmp_path):
        config = {"audio_visual_model": {}, "text_model": {}, "output_dim": 1024, "nth_text_layer": 22}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert re.search(r"branch perception_models.*again from its branch main", refusal(tmp_path))

    def test_weights_in_several_files(self, twin):
        tensors = torch.load(twin / "pytorch_model.bin", weights_only=True)
        names = sorted(tensors)
        (twin / "pytorch_model.bin").unlink()
        index = {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"pytorch_model-0000{number}-of-00002.bin"
            torch.save({name: tensors[name] for name in part}, twin / file)
            index |= dict.fromkeys(part, file)
        (twin / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        assert TransformersEncoder.from_folder(twin).dim == published_twins.DIM
        (twin / file).unlink()
        assert f"lacks {file}, which its pytorch_model.bin.index.json names" in refusal(twin)
        (twin / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../../secret.bin"}}))
        assert "index.json cannot be read" in refusal(twin)

    def test_a_pickle_of_before_the_zip_format(self, twin):
        tensors = torch.load(twin / "pytorch_model.bin", weights_only=True)
        torch.save(tensors, twin / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        assert TransformersEncoder.from_folder(twin).dim == published_twins.DIM


class TestWeights:
    @pytest.mark.parametrize("zipped", [False, True])
    def test_code_is_never_run(self, twin, tmp_path, zipped):
        class Code:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'was_run'}",)

        if zipped:
            torch.save({"a": Code()}, twin / "pytorch_model.bin")
        else:
            (twin / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))
        assert re.search(r"pytorch_model\.bin of published holds code and was not opened", refusal(twin))
        assert not (tmp_path / "was_run").exists()

    @pytest.mark.parametrize("twin", ["larger", "foley"], indirect=True)
    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
    def test_a_cut_file(self, twin, share):
        path = published_twins.weights(twin)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        assert re.search(rf"{path.name} of published is damaged or was cut short \([\d,]+ bytes\)", refusal(twin))

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_a_pointer_of_git(self, twin, name):
        (twin / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 614525485\n")
        assert re.search(
            rf"{name} of published is a Git LFS pointer of \d+ bytes.*Download the file itself", refusal(twin)
        )

    def test_a_torch_that_would_run_code(self, twin, monkeypatch):
        monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
        assert re.search(
            r"needs torch 2\.6 to be read, and this is 2\.5\.1.*download model\.safetensors", refusal(twin)
        )

    @pytest.mark.parametrize("value", [0.0, 0.02])
    def test_equal_weights_hear_nothing(self, twin, value):
        published_twins.change_tensors(
            twin, lambda t: {n: v.fill_(value) if v.is_floating_point() else v for n, v in t.items()}
        )
        assert "hears no difference between two unlike sounds" in refusal(twin)


def test_a_transformers_that_is_too_old_or_missing(twin, monkeypatch):
    monkeypatch.setitem(published_folders.CLASSES, "clap", "ClapModelOfTomorrow")
    with pytest.raises(CheckpointError, match=r"needs ClapModelOfTomorrow.*Update"):
        TransformersEncoder.from_folder(twin)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(CheckpointError, match="transformers cannot be imported"):
        TransformersEncoder.from_folder(twin)


class TestForeignFiles:
    @pytest.mark.parametrize(
        ("name", "folder"),
        [
            ("630k-audioset-best.pt", "laion/clap-htsat-unfused"),
            ("630k-fusion-best.pt", "laion/clap-htsat-fused"),
            ("music_audioset_epoch_15_esc_90.14.pt", "laion/larger_clap_music"),
            ("music_speech_epoch_15_esc_89.25.pt", "laion/larger_clap_music_and_speech"),
            ("music_speech_audioset_epoch_15_esc_89.98.pt", "laion/larger_clap_general"),
            ("clap.pt", "laion/clap-htsat-unfused"),
            ("renamed.pt", "laion/clap-htsat-fused"),
        ],
    )
    @pytest.mark.parametrize("zipped", [True, False])
    def test_laions_own_file_names_its_folder(self, tmp_path, name, folder, zipped):
        names = ["module.audio_branch.norm.weight", "module.text_branch.pooler.dense.weight", "module.logit_scale_a"]
        names += ["module.audio_branch.patch_embed.mel_conv2d.weight"] if name == "renamed.pt" else []
        content = {"epoch": 15, "name": "x", "state_dict": {key: torch.zeros(2) for key in names}}
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
        error = str(explain_file(tmp_path / name))
        assert f"The folder {folder} is the same model" in error and f"{name} is LAION's own" in error

    def test_others(self, tmp_path):
        torch.save(
            {"model": {"caption_encoder.a": torch.zeros(1), "audio_encoder.b": torch.zeros(1)}}, tmp_path / "m.pth"
        )
        assert "Microsoft's own" in str(explain_file(tmp_path / "m.pth"))
        torch.save(cavt_tensors(WeightMaker(0)), tmp_path / "cavt.pth")
        (tmp_path / "text.pt").write_text("hello")
        for path in (tmp_path / "cavt.pth", tmp_path / "text.pt", tmp_path / "gone.pt"):
            assert explain_file(path) is None
