"""The frozen words: hashed, of a CLIP text encoder, brought to another width, in every prompt style."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.align.texts import CLIPTexts, HashedWords, Reduced, class_texts, orthonormal
from aai_pack.aai_models.errors import CheckpointError, TrainingError
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
