"""Nothing is carried where nothing was aligned: each place that makes a word of a sound, with an encoder of either kind."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_pack.aai_models.errors import TokenError
from aai_pack.devtools import stand_in
from aai_pack.nodes.align import AAI_CAVTEncode
from aai_pack.nodes.host.adapt import bridge, carried, training
from aai_pack.nodes.host.base import types
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.inject import sound_files
from aai_pack.nodes.host.pocket.models import load_pocket
from aai_pack.nodes.words import AAI_ApplyAdapter, AAI_WordFromSound
from aai_pack.tests import published_twins, sounds
from aai_pack.tests.host import micro
from safetensors.torch import save_file

WORDS = 100
REFUSED = r"^published\.safetensors is not aligned with .*Find Pictures for Sound .* Train Audio Token"
pytestmark = pytest.mark.usefixtures("forgetful")


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def ears(tmp_path_factory):
    """One pair of weights in two files: one says what it is aligned with, the other is as CAV-MAE is published."""
    folder = tmp_path_factory.mktemp("ears")
    tensors = CAVTMAE.fresh(CAVTMAEConfig(dim=768, depth=1, mlp_dim=32, image_tokens=0), 3).state_dict()
    save_file(tensors, folder / "aligned.safetensors", metadata={"aai.aligned_with": "clip_l"})
    save_file(tensors, folder / "published.safetensors")
    with torch.inference_mode():
        return {name: encoders.load_any(str(folder / f"{name}.safetensors")) for name in ("aligned", "published")}


@pytest.fixture(scope="module")
def heard(ears):
    """What each of them hears, through the node."""
    audio = {"waveform": sounds.noise(1, 1, 16000), "sample_rate": 16000}
    with torch.inference_mode():
        return {name: AAI_CAVTEncode.execute(ear, audio, "tile", "first")[0] for name, ear in ears.items()}


@pytest.fixture(autouse=True)
def few_words(tmp_path, monkeypatch):
    whole = bridge.bridge_of

    def limited(clip, limit=0, kind="ridge", own=None):
        return whole(clip, limit or WORDS, kind, own)

    monkeypatch.setattr(bridge.folder_paths, "get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr(carried, "bridge_of", limited)
    monkeypatch.setattr(bridge, "bridge_of", limited)


def test_who_says_what(ears, heard, tmp_path):
    assert {name: ear.aligned_with for name, ear in ears.items()} == {"aligned": "clip_l", "published": ""}
    assert {name: feature.aligned_with for name, feature in heard.items()} == {"aligned": "clip_l", "published": ""}
    assert torch.equal(heard["aligned"].vectors, heard["published"].vectors), "the same ear"
    stand_in.write_cavt(tmp_path / "stand_in.safetensors")
    stand_in.write_cavt(tmp_path / "stand_in.pth")
    clap = published_twins.clap(tmp_path / "clap")
    with torch.inference_mode():
        assert encoders.load(str(tmp_path / "stand_in.safetensors")).aligned_with == "clip_l"
        assert encoders.load(str(tmp_path / "stand_in.pth")).aligned_with == ""
        assert encoders.load_any(str(clap)).aligned_with == ""


def test_sounds_of_several_wires(heard):
    joined = types.AudioFeature.joined([heard["aligned"], heard["aligned"]])
    assert joined.aligned_with == "clip_l"
    mixed = [types.AudioFeature(torch.ones(1, 4), "a", aligned_with=said) for said in ("clip_l", "")]
    assert types.AudioFeature.joined(mixed).aligned_with == ""


class TestWordFromSound:
    def test_aligned(self, models, heard):
        with torch.inference_mode():
            token, said = AAI_WordFromSound.execute(models[1], heard["aligned"], 1.0, WORDS).result
        assert token.vectors["clip_l"].shape == (1, 768) and "clip_l, nearest words: " in said

    @pytest.mark.parametrize("kind", ["ridge", "phi"])
    def test_unaligned(self, models, heard, kind, tmp_path):
        with torch.inference_mode(), pytest.raises(TokenError, match=REFUSED):
            AAI_WordFromSound.execute(models[1], heard["published"], 1.0, WORDS, kind)
        assert not (tmp_path / "aai_bridges").exists(), "no bridge was built for it"

    def test_the_pocket(self):
        with torch.inference_mode():
            pocket = load_pocket()
            audio = {"waveform": sounds.noise(1, 1, 16000), "sample_rate": 16000}
            feature = AAI_CAVTEncode.execute(pocket.encoder, audio, "tile", "first")[0]
            token, _ = AAI_WordFromSound.execute(pocket.clip, feature, 1.0, WORDS).result
        assert token.directions


class TestTraining:
    def train(self, models, feature, kind):
        config = AdaptConfig(steps=1, resolution=64, held_out=2, bridge=kind, start="zero")
        with torch.inference_mode():
            return training.train(*models, feature, [micro.pictures()], config)

    def test_auto(self, models, heard):
        aligned, published = (self.train(models, heard[name], "auto") for name in ("aligned", "published"))
        assert aligned.token.directions and "is not aligned" not in aligned.report.text()
        assert not published.token.directions
        assert "bridge = none: published.safetensors is not aligned" in published.report.text()
        assert "is not aligned" not in self.train(models, heard["published"], "none").report.text(), "as asked for"

    def test_auto_once_more(self, models, heard, tmp_path, monkeypatch):
        """The stored result says it as well."""
        monkeypatch.setattr("aai_pack.nodes.host.base.folders.trainings_folder", lambda: tmp_path / "kept")
        done, again = (self.train(models, heard["published"], "auto") for _ in range(2))
        assert done.report.text() == again.report.text() and "is not aligned" in again.report.text()

    @pytest.mark.parametrize("kind", ["ridge", "phi"])
    def test_by_hand(self, models, heard, kind):
        with pytest.raises(TokenError, match=REFUSED):
            self.train(models, heard["published"], kind)

    def test_bare_vectors(self, models):
        assert self.train(models, micro.sound()[None], "ridge").token.directions


class TestStyliseAFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "sounds").mkdir()
        sounds.write_wav(tmp_path / "sounds" / "rain.wav", sounds.noise(1, 16000)[0].numpy())
        return str(tmp_path / "sounds")

    def test_aligned(self, models, ears, folder):
        words = sound_files.sound_files(folder, ears["aligned"], models[1], WORDS)
        with torch.inference_mode():
            assert words["rain"].word().directions

    def test_unaligned(self, models, ears, folder):
        """Before a word is made or a plan is shown."""
        with pytest.raises(TokenError, match=REFUSED):
            sound_files.sound_files(folder, ears["published"], models[1], WORDS)


class TestAnotherSound:
    def test_over_a_bridge(self, models, heard):
        with torch.inference_mode():
            token, _ = AAI_WordFromSound.execute(models[1], heard["aligned"], 1.0, WORDS).result
            assert AAI_ApplyAdapter.execute(token, heard["aligned"], 1.0, models[1])[0].directions
            for clip in (models[1], None):
                with pytest.raises(TokenError, match=REFUSED):
                    AAI_ApplyAdapter.execute(token, heard["published"], 1.0, clip)

    def test_without_a_bridge(self, heard):
        """What was never carried is exchanged as ever, whatever the encoder."""
        token = AudioToken(micro.sound(), {"clip_l": torch.zeros(1, 768)}, {"clip_l": 0.4})
        for feature in heard.values():
            given = AAI_ApplyAdapter.execute(token, feature, 1.0)[0]
            assert torch.equal(given.audio_feature, feature.vectors[0])
