"""A word by what was heard, with encoders as they are published, in every family of text encoders."""

from __future__ import annotations

import json

import comfy.model_management as mm
import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import CheckpointError, TokenError
from aai_pack.nodes.align import AAI_CAVTEncode
from aai_pack.nodes.host.adapt import bridge, kept_texts
from aai_pack.nodes.host.adapt.listen import Listening, listen
from aai_pack.nodes.host.base import centre
from aai_pack.nodes.host.base.prompt_words import encode
from aai_pack.nodes.host.base.types import AudioFeature
from aai_pack.nodes.host.base.vocabulary import vocabulary_rows, word_rows
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.pocket.models import load_pocket
from aai_pack.nodes.words import AAI_ApplyAdapter, AAI_WordFromSound
from aai_pack.pocket.world.names import NAMED
from aai_pack.pocket.world.sounds import RATE, synthesise
from aai_pack.tests import published_twins, sounds
from aai_pack.tests.host import micro

pytestmark = pytest.mark.usefixtures("forgetful")
LIST = "dog\nrain\nchurch bell\nkettle: a boiling kettle\ntrain"
WIDTHS = {"sd15": {"clip_l": 768}, "sd2": {"clip_h": 1024}, "sdxl": {"clip_l": 768, "clip_g": 1280}}
TWINS = {
    "clap": lambda folder: published_twins.clap(folder / "clap"),
    "fused": lambda folder: published_twins.clap(folder / "fused", "fused"),
    "pe": lambda folder: published_twins.pe(folder / "pe"),
    "pe_frame": lambda folder: published_twins.pe(folder / "pe_frame", "pe_audio_frame"),
}


@pytest.fixture(scope="module")
def ears(tmp_path_factory):
    """Each encoder is read when it is first asked for; a host whose transformers has no PE leaves it out."""
    folder, found = tmp_path_factory.mktemp("ears"), {}

    def ear(name: str):
        if name.startswith("pe"):
            pytest.importorskip("transformers.models.pe_audio")
        if name not in found:
            with torch.inference_mode():
                found[name] = encoders.load_any(str(TWINS[name](folder)))
        return found[name]

    return ear


@pytest.fixture(scope="module")
def clips():
    found = {}

    def clip(family: str):
        return found.setdefault(family, micro.build(family) if family not in found else None)[1]

    return clip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_texts.folder_paths, "get_user_directory", lambda: str(tmp_path))
    return tmp_path


def hear(ear, seed: int = 1) -> AudioFeature:
    audio = {"waveform": sounds.noise(seed, 1, 16000), "sample_rate": 16000}
    with torch.inference_mode():
        return AAI_CAVTEncode.execute(ear, audio, "tile", "first")[0]


def word(clip, feature, vocabulary: int = 0, **settings) -> tuple[AudioToken, str]:
    with torch.inference_mode():
        return AAI_WordFromSound.execute(clip, feature, 1.0, vocabulary, **{"bridge": "auto", **settings}).result


def as_label(feature: AudioFeature, name: str, labels: str = LIST) -> AudioFeature:
    """A sound that lies where a label lies, so that what is heard is known."""
    names = [line.partition(":")[0] for line in labels.splitlines()]
    sentences = [line.partition(":")[2].strip() or line for line in labels.splitlines()]
    text = feature.ear.aligned_text(None)
    with torch.inference_mode():
        vectors = kept_texts.kept_features(text, tuple(sentences))
    return AudioFeature(vectors[names.index(name)][None].clone(), feature.encoder, ear=feature.ear)


@pytest.mark.parametrize("name", list(TWINS))
def test_a_sound_that_lies_at_a_label_is_heard_as_it(ears, clips, name):
    """With a low temperature the twins' scale, which nobody trained, does not matter."""
    feature = as_label(hear(ears(name)), "kettle")
    token, said = word(clips("sd15"), feature, labels=LIST, temperature=0.05)
    rows = word_rows(clips("sd15"), "kettle")["clip_l"]
    assert torch.equal(token.vectors["clip_l"], rows), "as the plain word, to the bit"
    assert said.startswith("Heard: kettle") and "Drawn as: kettle." in said
    assert f"among 5 labels, compared by {ears(name).name}'s own texts" in said
    assert token.metadata["bridge"] == "labels" and json.loads(token.metadata["drawn_as"]) == [["kettle", 1.0]]


@pytest.mark.parametrize("family", list(WIDTHS))
def test_every_family_gets_its_words(ears, clips, family):
    clip = clips(family)
    token, said = word(clip, hear(ears("clap")))
    assert {key: rows.shape[-1] for key, rows in token.vectors.items()} == WIDTHS[family]
    assert len(said.splitlines()[0]) > 20 and "229" not in said.splitlines()[0]
    with torch.inference_mode():
        encode(clip, "a photo of <A*>", {1: token})
    two, _ = word(clip, as_label(hear(ears("clap")), "church bell"), labels=LIST, temperature=0.05)
    assert {key: tuple(rows.shape) for key, rows in two.vectors.items()} == {
        k: (2, w) for k, w in WIDTHS[family].items()
    }
    with torch.inference_mode():
        ((cond, _),) = encode(clip, "a photo of <A*>", {1: two})
        ((plain, _),) = encode(clip, "a photo of church bell", {})
    torch.testing.assert_close(cond, plain)


def test_a_mixture_has_the_size_of_a_word(ears, clips):
    token, _ = word(clips("sd15"), hear(ears("clap")), words="dog 0.6, rain 0.4")
    rows = {name: word_rows(clips("sd15"), name)["clip_l"].mean(0) for name in ("dog", "rain")}
    expected = F.normalize(0.6 * rows["dog"] + 0.4 * rows["rain"], dim=-1)
    median = float(vocabulary_rows(clips("sd15"), "clip_l").norm(dim=-1).median())
    torch.testing.assert_close(token.vectors["clip_l"][0], median * expected)


def test_words_win_over_what_was_heard(ears, clips):
    token, said = word(clips("sd15"), hear(ears("clap")), words="it is a kettle", labels=LIST)
    assert torch.equal(token.vectors["clip_l"], word_rows(clips("sd15"), "kettle")["clip_l"])
    assert said.splitlines()[0] == "Drawn as written: kettle." and "Heard: " in said


def test_words_need_no_tokenizer_and_no_alignment(clips, tmp_path):
    folder = published_twins.clap(tmp_path / "mute")
    for name in ("tokenizer.json", "vocab.json"):
        (folder / name).unlink()
    with torch.inference_mode():
        feature = hear(encoders.load_any(str(folder)))
    token, said = word(clips("sd15"), feature, words="kettle")
    assert torch.equal(token.vectors["clip_l"], word_rows(clips("sd15"), "kettle")["clip_l"])
    assert "mute has no tokenizer" in said
    with pytest.raises(CheckpointError, match=r"mute has no tokenizer.*Download tokenizer\.json"):
        word(clips("sd15"), feature)


def test_the_order_of_the_list_changes_nothing(ears, clips):
    feature = hear(ears("clap"))
    with torch.inference_mode():
        there, back = (
            dict(listen(clips("sd15"), feature, Listening("\n".join(lines)))[0].shares)
            for lines in (LIST.splitlines(), LIST.splitlines()[::-1])
        )
    assert there == pytest.approx(back, abs=1e-5)


def test_labels_that_are_all_alike(ears, clips):
    token, said = word(clips("sd15"), hear(ears("clap")), labels=LIST, temperature=20.0)
    assert said.startswith("Nothing clear was heard: all labels are nearly alike.") and "Heard: " in said
    assert token.vectors["clip_l"].isfinite().all()


class TestKept:
    def test_a_list_is_encoded_once_for_all_clips(self, ears, clips, own_folder, monkeypatch):
        feature = hear(ears("clap"))
        word(clips("sd15"), feature, labels=LIST)
        (path,) = (own_folder / "aai_labels").iterdir()
        text = ears("clap").aligned_text(None)
        with monkeypatch.context() as patch:
            patch.setattr(type(text), "encode", _not_again)
            word(clips("sd2"), feature, labels=LIST)
            with pytest.raises(AssertionError):
                word(clips("sd15"), feature, labels=LIST + "\nwolf")
        word(clips("sd15"), feature, labels=LIST + "\nwolf")
        assert len(list(path.parent.iterdir())) == 2

    @pytest.mark.parametrize("damage", [b"", b"no tensors", None])
    def test_a_damaged_file_is_made_again(self, ears, clips, own_folder, damage):
        feature = hear(ears("clap"))
        before, _ = word(clips("sd15"), feature, labels=LIST)
        (path,) = (own_folder / "aai_labels").iterdir()
        path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
        assert torch.equal(word(clips("sd15"), feature, labels=LIST)[0].vectors["clip_l"], before.vectors["clip_l"])

    def test_a_disk_that_takes_nothing(self, ears, clips, own_folder):
        (own_folder / "aai_labels").write_text("a file where the folder should be")
        assert word(clips("sd15"), hear(ears("clap")), labels=LIST)[0].vectors

    def test_cancel_between_batches(self, ears, clips, own_folder, monkeypatch):
        feature, asked = hear(ears("clap")), []

        def stop():
            asked.append(1)
            if len(asked) > 2:
                raise mm.InterruptProcessingException

        monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", stop)
        labels = "\n".join(f"thing {number}" for number in range(200))
        with pytest.raises(mm.InterruptProcessingException):
            word(clips("sd15"), feature, labels=labels)
        assert not (own_folder / "aai_labels").exists(), "half a list is not kept"


def _not_again(self, texts):
    raise AssertionError("encoded again")


class TestRidge:
    """What has no name: from the tower's own texts of the CLIP's vocabulary."""

    @pytest.mark.parametrize("family", list(WIDTHS))
    def test_from_its_own_texts(self, ears, clips, family, own_folder):
        feature = hear(ears("clap"))
        with torch.inference_mode():
            token, said = AAI_WordFromSound.execute(clips(family), feature, 1.0, 100, "ridge").result
            text = ears("clap").aligned_text(None)
            made = bridge.bridge_of(clips(family), 100, "ridge", text)
            expected = made.carry(feature.vectors[0], centre.centre_of(ears("clap")))
        for key, width in WIDTHS[family].items():
            assert token.vectors[key].shape == (1, width)
            assert torch.equal(token.directions[key], expected[key]) and f"{key}: of " in said
        assert token.metadata["bridge_vocabulary"].endswith(text.digest) and "clap's own texts" in said
        with torch.inference_mode():
            again = AAI_ApplyAdapter.execute(token, feature, 1.0, clips(family))[0]
        assert all(torch.equal(again.vectors[key], token.vectors[key]) for key in token.vectors)

    def test_the_centre_is_kept(self, ears, own_folder, monkeypatch):
        with torch.inference_mode():
            found = centre.centre_of(ears("clap"))
            features = ears("clap").encode(centre.neutral_sounds(), centre.RATE)
        torch.testing.assert_close(found, features.mean(0))
        monkeypatch.setattr(ears("clap"), "encode", _not_again)
        with torch.inference_mode():
            assert torch.equal(centre.centre_of(ears("clap")), found)


class TestAnotherSound:
    def test_untrained(self, ears, clips):
        clip, ear = clips("sdxl"), ears("clap")
        token, _ = word(clip, as_label(hear(ear), "dog"), labels=LIST, temperature=0.05)
        other = as_label(hear(ear), "church bell")
        with torch.inference_mode():
            found = AAI_ApplyAdapter.execute(token, other, 1.0, clip)[0]
        assert all(torch.equal(found.vectors[key], rows) for key, rows in word_rows(clip, "church bell").items())

    def test_of_an_encoder_without_words(self, ears, clips):
        token, _ = word(clips("sd15"), hear(ears("clap")))
        bare = AudioFeature(hear(ears("clap")).vectors, "bare")
        with pytest.raises(TokenError, match="bare is not aligned"):
            AAI_ApplyAdapter.execute(token, bare, 1.0, clips("sd15"))

    def test_over_the_bridge_of_another_encoder(self, ears, clips, monkeypatch):
        with torch.inference_mode():
            token, _ = AAI_WordFromSound.execute(clips("sd15"), hear(ears("clap")), 1.0, 100, "ridge").result
            monkeypatch.setattr(bridge, "_make", _not_again)
            with pytest.raises(TokenError, match=r"fused did not make this word.*another encoder's texts"):
                AAI_ApplyAdapter.execute(token, hear(ears("fused")), 1.0, clips("sd15"))

    def test_saved_and_loaded(self, ears, clips, tmp_path):
        token, _ = word(clips("sd15"), as_label(hear(ears("clap")), "church bell"), labels=LIST, temperature=0.05)
        token.save(tmp_path / "word.safetensors")
        found = AudioToken.load(tmp_path / "word.safetensors")
        assert torch.equal(found.vectors["clip_l"], token.vectors["clip_l"]) and found.metadata == token.metadata


class TestTagger:
    """An encoder with labels of its own, and no texts."""

    @pytest.fixture
    def feature(self):
        shares = (("dog", 0.7), ("wolf", 0.2), ("church bell", 0.1))
        return AudioFeature(micro.sound()[None], "tagger", labels=(shares,))

    def test_its_labels(self, clips, feature):
        token, said = word(clips("sd2"), feature)
        assert torch.equal(token.vectors["clip_h"], word_rows(clips("sd2"), "dog")["clip_h"])
        assert said.startswith("Heard: dog 0.70, wolf 0.20") and "tagger's own labels" in said

    def test_a_list_of_the_artists(self, clips, feature):
        token, said = word(clips("sd2"), feature, labels="Wolf\nkettle")
        assert torch.equal(token.vectors["clip_h"], word_rows(clips("sd2"), "wolf")["clip_h"])
        assert "tagger knows 1 of the 2 labels" in said
        with pytest.raises(TokenError, match=r"tagger knows none of the 1 labels.*dog, wolf"):
            word(clips("sd2"), feature, labels="kettle")


@pytest.fixture(scope="module")
def pocket():
    with torch.inference_mode():
        return load_pocket()


class TestAligned:
    """The pocket's ear, through the text encoder that it was aligned with."""

    def heard(self, pocket, thing: str, seed: int = 1_000_000):
        audio = {"waveform": torch.from_numpy(synthesise(thing, 0.6, seed))[None, None], "sample_rate": RATE}
        with torch.inference_mode():
            return AAI_CAVTEncode.execute(pocket.encoder, audio, "tile", "first")[0]

    def test_known_things_are_heard(self, pocket):
        features = AudioFeature.joined([self.heard(pocket, thing) for thing in NAMED])
        with torch.inference_mode():
            found = listen(pocket.clip, features, Listening())
        first = [one.shares[0][0] for one in found]
        # "storm" is the pocket's other word for wind.
        assert sum(said in (thing, "storm") for said, thing in zip(first, NAMED, strict=True)) >= 17
        assert sum(one.is_clear for one in found) >= 17

    def test_what_it_is_not_sure_of_goes_over_the_ridge(self, pocket):
        token, said = word(pocket.clip, self.heard(pocket, "guitar", 1_000_502), 500)
        assert token.metadata["bridge"] == "ridge" and "bridge: ridge" in said and "Heard: " in said

    def test_ridge_by_hand_is_as_it_was(self, pocket):
        feature = self.heard(pocket, "dog")
        with torch.inference_mode():
            token, said = AAI_WordFromSound.execute(pocket.clip, feature, 1.0, 500, "ridge").result
            known = (feature.centre, 0.0, feature.aligned_with, feature.encoder)
            expected, text = bridge.word_from_sound(pocket.clip, feature.vectors[0], 1.0, 500, "ridge", *known)
        assert torch.equal(token.vectors["clip_l"], expected.vectors["clip_l"]) and said == text
        with torch.inference_mode():  # as a prompt asks that was written before there were labels
            before, _ = AAI_WordFromSound.execute(pocket.clip, feature, 1.0, 500).result
        assert torch.equal(before.vectors["clip_l"], token.vectors["clip_l"])
