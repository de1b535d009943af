"""Encoders behind one interface, on tiny random models of the real classes."""

from __future__ import annotations

import json

import pytest
import torch
from aai_pack.aai_models.align import encoders
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.encoders import AudioEncoder, CAVTEncoder, TransformersEncoder
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.devtools.stand_in import WeightMaker, cavt_tensors
from aai_pack.tests import sounds


def save_clap(folder) -> None:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 50,
    }
    audio = {
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "patch_embeds_hidden_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "spec_size": 256,
        "num_mel_bins": 64,
        "enable_fusion": False,
    }
    torch.manual_seed(0)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=24)).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)


def save_pe_audio(folder) -> None:
    from transformers import PeAudioConfig, PeAudioFeatureExtractor, PeAudioModel

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    codec = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 8, 10, 12], "hidden_size": 64, "codebook_dim": 16}
    text = {"model_type": "modernbert", **small, "vocab_size": 50, "global_attn_every_n_layers": 1}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    audio = {**small, "num_key_value_heads": 2, "head_dim": 16, "dac_config": codec}
    torch.manual_seed(0)
    PeAudioModel(PeAudioConfig(text_config=text, audio_config=audio)).save_pretrained(folder)
    PeAudioFeatureExtractor().save_pretrained(folder)


@pytest.fixture(scope="module", params=["cavt", "clap", "pe_audio"])
def encoder(request, tmp_path_factory):
    if request.param == "cavt":
        return CAVTEncoder(CAVTMAE.from_state_dict(cavt_tensors(WeightMaker(0)), dtype=torch.float32))
    folder = tmp_path_factory.mktemp(request.param)
    {"clap": save_clap, "pe_audio": save_pe_audio}[request.param](folder)
    return TransformersEncoder.from_folder(folder)


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


class TestFolders:
    def test_missing_parts(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"no readable config\.json"):
            TransformersEncoder.from_folder(tmp_path)
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"no readable config\.json"):
            TransformersEncoder.from_folder(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        with pytest.raises(CheckpointError, match=r"'bert' model.*Known audio encoders are clap, pe_audio"):
            TransformersEncoder.from_folder(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"}))
        with pytest.raises(CheckpointError, match="cannot be read as ClapModel"):
            TransformersEncoder.from_folder(tmp_path)

    def test_weights_that_would_run_code_are_never_read(self, tmp_path):
        save_clap(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        with pytest.raises(CheckpointError, match="cannot be read"):
            TransformersEncoder.from_folder(tmp_path)

    def test_a_transformers_that_is_too_old_or_missing(self, tmp_path, monkeypatch):
        save_clap(tmp_path)
        monkeypatch.setitem(encoders.FAMILIES, "clap", "ClapModelOfTomorrow")
        with pytest.raises(CheckpointError, match=r"needs ClapModelOfTomorrow.*Update"):
            TransformersEncoder.from_folder(tmp_path)
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        with pytest.raises(CheckpointError, match="transformers cannot be imported"):
            TransformersEncoder.from_folder(tmp_path)
