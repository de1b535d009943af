"""The bridge on the host's own text encoders."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.nodes.host import bridging, training
from aai_pack.nodes.host.vocabulary import vocabulary_rows
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_training import state_of

WORDS = 200


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(bridging.folder_paths, "get_user_directory", lambda: str(tmp_path))
    return tmp_path


def test_features_are_those_of_the_words_as_prompts(models):
    clip = models[1]
    words, ids = bridging.whole_words(clip, 10)
    with torch.inference_mode():
        features = bridging._features(clip, ids)
        clip.cond_stage_model.reset_clip_options()
        encoder = clip.cond_stage_model.clip_l
        encoder.set_clip_options({"projected_pooled": False})
        for word, feature in zip(words, features, strict=True):
            ((chunk),) = clip.tokenize(word)["l"]
            whole = encoder([[entry[0] for entry in chunk]])[1][0]
            assert torch.allclose(feature, whole, atol=1e-4), word
        clip.cond_stage_model.reset_clip_options()


def test_a_word_without_training(models, own_folder):
    before = state_of(models)
    with torch.inference_mode():
        token, heard = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS)
        (path,) = (own_folder / "aai_bridges").iterdir()
        written = path.stat().st_mtime_ns
        again, _ = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS)
    assert path.stat().st_mtime_ns == written, "kept, not made again"
    assert torch.equal(token.vectors["clip_l"], again.vectors["clip_l"])
    median = float(vocabulary_rows(models[1], "clip_l").norm(dim=-1).median())
    assert float(token.vectors["clip_l"].norm()) == pytest.approx(median, rel=1e-4)
    assert "clip_l hears: " in heard and "cosine" in heard
    assert state_of(models) == before


def test_training_starts_from_the_bridge(models, monkeypatch):
    limited = bridging.bridge_of
    monkeypatch.setattr(training, "bridge_of", lambda clip: limited(clip, WORDS))
    config = AdaptConfig(steps=2, resolution=64, held_out=2, bridge="ridge", start="zero", mode="sound_only")
    with torch.inference_mode():
        done = training.train(*models, micro.sound()[None], [micro.pictures()], config)
        expected = limited(models[1], WORDS).carry(micro.sound())["clip_l"]
    cosine = F.cosine_similarity(done.token.vectors["clip_l"], expected[None])
    assert float(cosine) == pytest.approx(1, abs=1e-5)
