"""The bridge on the host's own text encoders."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.config import AdaptConfig, from_preset
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import TokenError
from aai_pack.nodes.host.adapt import bridge as bridging
from aai_pack.nodes.host.adapt import carried, training
from aai_pack.nodes.host.base.vocabulary import vocabulary_rows
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_training import state_of

WORDS = 200
COUNT = 199  # evenly spaced ones


@pytest.fixture(scope="module")
def models():
    return micro.build()


pytestmark = pytest.mark.usefixtures("forgetful")


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
            assert torch.allclose(feature.cpu(), whole.cpu(), atol=1e-4), word
        clip.cond_stage_model.reset_clip_options()


def test_a_word_without_training(models, own_folder):
    before = state_of(models)
    with torch.inference_mode():
        token, heard = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")
        (path,) = (own_folder / "aai_bridges").iterdir()
        written = path.stat().st_mtime_ns
        again, _ = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")
    assert path.stat().st_mtime_ns == written, "kept, not made again"
    assert torch.equal(token.vectors["clip_l"], again.vectors["clip_l"])
    median = float(vocabulary_rows(models[1], "clip_l").norm(dim=-1).median())
    assert float(token.vectors["clip_l"].norm()) == pytest.approx(median, rel=1e-4)
    assert "clip_l, nearest words: " in heard and "cosine" in heard
    assert state_of(models) == before


def test_a_word_may_be_its_nearest_words(models, own_folder):
    with torch.inference_mode():
        made = {
            share: bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l", nearest=share)[
                0
            ]
            for share in (0.0, 0.5, 1.0)
        }
        plain, _ = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")
        _, ids = bridging.whole_words(models[1])
        rows = F.normalize(vocabulary_rows(models[1], "clip_l")[ids].float().cpu(), dim=-1)
    near = [float((rows @ F.normalize(word.vectors["clip_l"][0], dim=-1)).max()) for word in made.values()]
    assert torch.equal(made[0.0].vectors["clip_l"], plain.vectors["clip_l"])
    assert near == sorted(near) and near[2] > near[0]
    sizes = [float(word.vectors["clip_l"].norm()) for word in made.values()]
    assert sizes == pytest.approx([sizes[0]] * 3, rel=1e-4)


def test_training_starts_from_the_bridge(models, monkeypatch):
    limited = limit_bridges(monkeypatch)
    config = AdaptConfig(steps=2, resolution=64, held_out=2, bridge="ridge", start="zero", mode="sound_only")
    with torch.inference_mode():
        done = training.train(*models, micro.sound()[None], [micro.pictures()], config)
        expected = limited(models[1]).carry(micro.sound())["clip_l"]
    cosine = F.cosine_similarity(done.token.vectors["clip_l"], expected[None])
    assert float(cosine) == pytest.approx(1, abs=1e-5)
    assert "those not used to build the bridge (ridge) arrive with cosine" in done.report.text()


def limit_bridges(monkeypatch):
    """Bridges of few words in place of the whole vocabulary's."""
    whole = bridging.bridge_of

    def limited(clip, limit=0, kind="ridge", own=None):
        return whole(clip, limit or WORDS, kind, own)

    monkeypatch.setattr(carried, "bridge_of", limited)
    monkeypatch.setattr(bridging, "bridge_of", limited)
    return limited


def test_quality_starts_from_the_bridge_and_goes_without_where_there_is_none(models, monkeypatch):
    limited = limit_bridges(monkeypatch)
    config = from_preset("quality", steps=1, resolution=64, held_out=2)
    with torch.inference_mode():
        done = training.train(*models, micro.sound()[None], [micro.pictures()], config)
        bridged = limited(models[1]).carry(micro.sound())["clip_l"]
        sd2 = training.train(*micro.build("sd2"), micro.sound()[None], [micro.pictures()], config)
    assert torch.equal(done.token.directions["clip_l"], bridged)
    assert done.token.metadata["bridge"] == "ridge"
    assert not sd2.token.directions and not sd2.report.notes


def test_two_encoders_have_a_bridge_each(monkeypatch):
    clip = micro.build("sdxl")[1]
    with torch.inference_mode():
        token, heard = bridging.word_from_sound(clip, micro.sound(), 1.0, WORDS, aligned_with="clip_l")
    assert {key: rows.shape for key, rows in token.vectors.items()} == {"clip_l": (1, 768), "clip_g": (1, 1280)}
    for key in ("clip_l", "clip_g"):
        median = float(vocabulary_rows(clip, key).norm(dim=-1).median())
        assert float(token.vectors[key].norm()) == pytest.approx(median, rel=1e-4)
        assert f"{key}, nearest words: " in heard and f"{key}: of {COUNT} words" in heard


def test_phi(models):
    with torch.inference_mode():
        bridge = bridging.bridge_of(models[1], WORDS, "phi")
        again = bridging.bridge_of(models[1], WORDS, "phi")
    assert bridge.kind == again.kind == "phi" and "the ridge alone" in bridge.text()[0]
    assert torch.equal(bridge.carry(micro.sound())["clip_l"], again.carry(micro.sound())["clip_l"])


def test_the_mean_of_sounds_is_taken_away(models):
    """Two sounds on either side of their own mean are carried to opposite sides of the words' mean."""
    centre = 0.5 * micro.sound(3)
    with torch.inference_mode():
        bridge = bridging.bridge_of(models[1], WORDS)
        sound = F.normalize(centre + 0.3 * micro.sound(4), dim=-1)
        centred = bridge.carry(sound, centre)["clip_l"]
        expected = F.normalize((sound - centre) @ bridge.weights["clip_l"] + bridge.centres["clip_l"], dim=-1)
        _, heard = bridging.word_from_sound(models[1], sound, 1.0, WORDS, aligned_with="clip_l")
        _, heard_centred = bridging.word_from_sound(models[1], sound, 1.0, WORDS, aligned_with="clip_l", centre=centre)
    assert torch.allclose(centred, expected, atol=1e-6)
    assert "no mean of sounds" in heard and "no mean of sounds" not in heard_centred


class TestBelonging:
    """A bridge is that of one text encoder, with its LoRAs."""

    def test_a_word_of_another_clip(self, models):
        other = micro.build(seed=9)[1]
        with torch.inference_mode():
            token, _ = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")
            assert bridging.bridge_of_token(token, models[1]).vocabulary == token.metadata["bridge_vocabulary"]
            with pytest.raises(TokenError, match="bridge of another CLIP"):
                bridging.bridge_of_token(token, other)

    def test_the_file_keeps_it(self, models, tmp_path):
        with torch.inference_mode():
            token, _ = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")
        token.save(tmp_path / "word.safetensors")
        assert AudioToken.load(tmp_path / "word.safetensors").metadata == token.metadata

    def test_a_file_under_the_name_of_another_is_made_anew(self, models, own_folder):
        other = micro.build(seed=9)[1]
        with torch.inference_mode():
            right = bridging.bridge_of(models[1], WORDS).carry(micro.sound())["clip_l"]
            (path,) = (own_folder / "aai_bridges").iterdir()
            bridging.bridge_of(other, WORDS)
            (strange,) = [p for p in path.parent.iterdir() if p != path]
            path.write_bytes(strange.read_bytes())
            assert torch.equal(bridging.bridge_of(models[1], WORDS).carry(micro.sound())["clip_l"], right)

    def test_a_lora_makes_another_vocabulary(self, models):
        clip = models[1].clone()
        key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        clip.add_patches({key: ("diff", (torch.randn(3072, 768) * 0.05,))}, 1.0)
        with torch.inference_mode():
            before = bridging.bridge_of(models[1], WORDS)
            patched = bridging.bridge_of(clip, WORDS)
            after = bridging.bridge_of(models[1], WORDS)
        assert before.vocabulary == after.vocabulary != patched.vocabulary
        assert not torch.equal(before.weights["clip_l"], patched.weights["clip_l"])


def test_a_clip_without_clip_l():
    with torch.inference_mode(), pytest.raises(TokenError, match="no CLIP-L"):
        bridging.word_from_sound(micro.build("sd2")[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")


def test_a_disk_that_takes_no_bridge(models, own_folder):
    (own_folder / "aai_bridges").write_text("a file where the folder should be")
    with torch.inference_mode():
        assert bridging.bridge_of(models[1], WORDS).figures["words"] == COUNT


@pytest.mark.parametrize(
    "named",
    [{"bridge": "/../../../../outside"}, {"bridge_words": "1/../../../outside"}, {"bridge_words": "x"}],
    ids=str,
)
def test_a_word_names_no_path(models, own_folder, named):
    """What a stranger's word says of its bridge becomes part of a file's name, so it is checked first."""
    with torch.inference_mode():
        token, _ = bridging.word_from_sound(models[1], micro.sound(), 1.0, WORDS, aligned_with="clip_l")
        stranger = replace(token, metadata={**token.metadata, **named})
        before = sorted(own_folder.parent.rglob("*"))
        with pytest.raises(TokenError, match="A bridge is ridge or phi"):
            bridging.bridge_of_token(stranger, models[1])
        assert sorted(own_folder.parent.rglob("*")) == before
        bridging.bridge_of_token(token, models[1])
