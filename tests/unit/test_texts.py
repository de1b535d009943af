"""The frozen words: hashed, of a CLIP text encoder, brought to another width, in every prompt style."""

from __future__ import annotations

import json

import pytest
import torch
from aai_pack.aai_models.align.encoders import TransformersEncoder
from aai_pack.aai_models.align.texts import CLIPTexts, HashedWords, Reduced, class_texts, orthonormal, own_texts
from aai_pack.aai_models.errors import CheckpointError, TrainingError
from aai_pack.tests import published_twins
from aai_pack.tests.unit.test_encoders import LAYOUTS, write_twin
from aai_pack.tests.unit.test_prepare import words_alone, write_clip_model


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return write_clip_model(tmp_path_factory.mktemp("clip"))


class TestTexts:
    def test_hashed_words(self):
        texts = HashedWords(256)
        dog, sea, both = texts.encode(["dog", "Sea!", "dog sea"])
        torch.testing.assert_close(dog, HashedWords(256).encode(["DOG"])[0])
        assert abs(float(dog @ sea)) < 0.25 and float(dog @ both) > 0.6
        assert torch.isfinite(texts.encode(["", "?!", "日本"])).all()

    def test_clip(self, tmp_path, clip_folder):
        texts = CLIPTexts(clip_folder / "text")
        features = texts.encode(["dog", "rain", "dog"])
        assert features.shape == (3, 32)
        torch.testing.assert_close(features[0], features[2], rtol=0, atol=1e-5)  # rows of a batch may round differently
        assert not torch.allclose(features[0], features[1])
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
        assert CLIPTexts(clip_folder / "text").name == texts.name
        lifted = Reduced(texts, 48).encode(["dog", "rain"])
        torch.testing.assert_close(lifted @ lifted.T, features[:2] @ features[:2].T, rtol=0, atol=1e-5)
        with pytest.raises(CheckpointError, match="has no tokenizer"):
            CLIPTexts(clip_folder.parent / "gone")
        with pytest.raises(CheckpointError, match="cannot be read as a CLIPTextModel"):
            CLIPTexts(words_alone(tmp_path, clip_folder))

    def test_prompts(self):
        texts = HashedWords(64)
        raw = class_texts(texts, ["dog", "{x}"], "label")
        torch.testing.assert_close(raw, texts.encode(["dog", "{x}"]))
        assert class_texts(texts, ["dog"], "ensemble").norm() == pytest.approx(1.0)
        with pytest.raises(TrainingError, match="Known are label"):
            class_texts(texts, ["dog"], "song")

    def test_orthonormal_maps(self):
        for n_in, n_out in ((8, 5), (5, 8)):
            q = orthonormal(n_in, n_out)
            gram = q.T @ q if n_in > n_out else q @ q.T
            torch.testing.assert_close(gram, torch.eye(5), rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=LAYOUTS)
def both(request, tmp_path_factory):
    folder = write_twin(tmp_path_factory.mktemp("twin") / "published", request.param)
    encoder = TransformersEncoder.from_folder(folder)
    return encoder, own_texts(encoder, folder)


class TestOwnTexts:
    """The text side of CLAP and PE."""

    def test_words_are_unit_vectors_in_the_space_of_sounds(self, both):
        encoder, texts = both
        features = texts.encode(["dog", "rain", "a dog in the rain, far away"])
        assert features.shape == (3, encoder.dim) and features.dtype == torch.float32
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
        assert not torch.allclose(features[0], features[1], atol=1e-3)
        assert texts.prompt == ("laion" if encoder.kind == "clap" else "label") and texts.scale > 1

    def test_neither_batch_nor_padding_moves_a_word(self, both):
        texts = both[1]
        words = ["dog", "rain" * 30, *(f"dog {k}" for k in range(70))]
        together = texts.encode(words)
        torch.testing.assert_close(together[0], texts.encode(["dog"])[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together[71], texts.encode([words[71]])[0], rtol=0, atol=1e-5)
        assert texts.encode(["dog " * 3000]).isfinite().all()

    def test_it_is_what_the_model_itself_says(self, both):
        encoder, texts = both
        inputs = {"input_ids": torch.tensor([[0, *texts._tokenizer("dog", add_special_tokens=False)["input_ids"], 2]])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.inference_mode():
            if encoder.kind == "clap":
                expected = encoder.model.get_text_features(**inputs)
                expected = getattr(expected, "pooler_output", expected)
            else:  # the state before the final norm: run the layers by hand
                model = encoder.model.text_model
                norm, model.final_norm = model.final_norm, torch.nn.Identity()
                expected = encoder.model.text_audio_head(model(**inputs).last_hidden_state[:, 0])
                model.final_norm = norm
        expected = torch.nn.functional.normalize(expected, dim=-1)
        torch.testing.assert_close(texts.encode(["dog"]), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("gone", [("tokenizer.json", "vocab.json"), ("tokenizer.json", "merges.txt")])
    def test_without_a_tokenizer_it_hears_and_has_no_words(self, tmp_path, gone):
        folder = write_twin(tmp_path / "published", "unfused")
        for name in gone:
            (folder / name).unlink()
        encoder = TransformersEncoder.from_folder(folder)
        with pytest.raises(
            CheckpointError, match=r"published has no tokenizer.*It encodes sounds.*Download tokenizer\.json"
        ):
            own_texts(encoder, folder)

    @pytest.mark.parametrize("size", [4, 400])
    def test_a_tokenizer_of_another_model(self, tmp_path, size):
        folder = write_twin(tmp_path / "published", "foley")
        vocabulary = json.loads((folder / "vocab.json").read_text())
        kept = {word: n for word, n in vocabulary.items() if n < size}
        kept |= {f"more{n}": n for n in range(len(kept), size)}
        (folder / "vocab.json").write_text(json.dumps(kept))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        encoder = TransformersEncoder.from_folder(folder)
        with pytest.raises(CheckpointError, match=r"tokenizer of published has \d+ tokens, its text model 2\d\d"):
            own_texts(encoder, folder)

    def test_a_text_side_of_empty_weights(self, tmp_path):
        folder = write_twin(tmp_path / "published", "larger")
        published_twins.change_tensors(
            folder, lambda t: {n: v.zero_() if n.startswith("text_projection") else v for n, v in t.items()}
        )
        with pytest.raises(CheckpointError, match="reads no difference between two unlike words"):
            own_texts(TransformersEncoder.from_folder(folder), folder)
