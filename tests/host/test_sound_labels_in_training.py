"""Trainings and batches that begin at what was heard."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.config import AdaptConfig, from_preset
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.nodes.host.adapt import carried, kept_texts, training
from aai_pack.nodes.host.adapt.listen import Listening, listen
from aai_pack.nodes.host.base.vocabulary import word_rows
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.inject import sound_files
from aai_pack.nodes.words import AAI_ApplyAdapter
from aai_pack.tests import published_twins, sounds
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_sound_labels import LIST, as_label, hear

pytestmark = pytest.mark.usefixtures("forgetful")


@pytest.fixture(scope="module")
def ear(tmp_path_factory):
    with torch.inference_mode():
        return encoders.load_any(str(published_twins.clap(tmp_path_factory.mktemp("ear") / "clap")))


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_texts.folder_paths, "get_user_directory", lambda: str(tmp_path))


@pytest.fixture(scope="module")
def models():
    return micro.build("sd15")


class TestTraining:
    def train(self, ear_feature, clip_models, config):
        with torch.inference_mode():
            return training.train(*clip_models, ear_feature, [micro.pictures()], config)

    @pytest.mark.parametrize("preset", ["quality", "quick"])
    def test_presets_start_at_what_was_heard(self, ear, models, preset, monkeypatch):
        feature = as_label(hear(ear), "train")
        monkeypatch.setattr(carried, "Listening", lambda: Listening(LIST, 0.05))
        config = from_preset(preset, steps=1, resolution=64, held_out=2)
        done = self.train(feature, models, config)
        row = F.normalize(word_rows(models[1], "train")["clip_l"][0], dim=-1)
        torch.testing.assert_close(done.token.directions["clip_l"], row)
        assert done.token.metadata["bridge"] == "labels" and "Drawn as: train." in done.report.text()

    def test_rows_of_a_label_and_another_sound(self, ear, models, monkeypatch):
        monkeypatch.setattr(carried, "Listening", lambda: Listening(LIST, 0.05))
        config = AdaptConfig(
            steps=2, resolution=64, held_out=2, bridge="labels", start="zero", vectors=2, norm_control="dti"
        )
        done = self.train(as_label(hear(ear), "church bell"), models, config)
        assert done.token.directions["clip_l"].shape == (2, 768)
        with torch.inference_mode():
            other = AAI_ApplyAdapter.execute(done.token, as_label(hear(ear), "dog"), 1.0, models[1])[0]
        row = F.normalize(word_rows(models[1], "dog")["clip_l"][0], dim=-1)
        torch.testing.assert_close(other.directions["clip_l"], row)

    def test_best_word_chooses_among_what_was_heard(self, ear, models, monkeypatch):
        config = AdaptConfig(steps=1, resolution=64, held_out=2, bridge="labels", start="best_word")
        with torch.inference_mode():
            heard = listen(models[1], hear(ear), Listening())[0]
        done = self.train(hear(ear), models, config)
        assert done.token.metadata["start_word"] in heard.candidates and "the word of 24 with" in done.report.text()

    def test_without_a_tokenizer_it_goes_on_and_says_so(self, models, tmp_path):
        folder = published_twins.clap(tmp_path / "mute")
        for name in ("tokenizer.json", "vocab.json"):
            (folder / name).unlink()
        with torch.inference_mode():
            feature = hear(encoders.load_any(str(folder)))
        done = self.train(feature, models, from_preset("quick", steps=1, resolution=64, held_out=2))
        assert not done.token.directions and "bridge = none: mute has no tokenizer" in done.report.text()
        with pytest.raises(CheckpointError, match="mute has no tokenizer"):
            self.train(feature, models, AdaptConfig(steps=1, resolution=64, held_out=2, bridge="labels"))


def test_a_folder_of_sounds(ear, models, tmp_path):
    (tmp_path / "sounds").mkdir()
    sounds.write_wav(tmp_path / "sounds" / "rain.wav", sounds.noise(1, 16000)[0].numpy())
    words = sound_files.sound_files(str(tmp_path / "sounds"), ear, models[1])
    with torch.inference_mode():
        token = words["rain"].word()
    assert token.metadata["bridge"] == "labels" and token.vectors["clip_l"].shape[-1] == 768
