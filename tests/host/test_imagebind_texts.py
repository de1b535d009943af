"""ImageBind's texts: by the text trunk of its file or by SD2's text encoder, and words that come of them."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.align.aligned_text import HasAlignedText
from aai_pack.aai_models.align.imagebind_text import text_scale
from aai_pack.aai_models.align.texts import class_texts
from aai_pack.aai_models.errors import CheckpointError, TokenError
from aai_pack.devtools import device
from aai_pack.nodes.host.base import folders
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.words import AAI_WordFromSound
from aai_pack.tests import imagebind_twins, sounds
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_imagebind import RATE, hear, needs_late

WORDS = ["dog", "a ticking clock", "rain"]


@pytest.fixture(scope="module", autouse=True)
def inference():
    """As the host runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def ear(tmp_path_factory):
    with torch.inference_mode():
        path = imagebind_twins.published(tmp_path_factory.mktemp("imagebind") / "imagebind_huge.pth")
        return encoders.load_any(str(path))


@pytest.fixture(scope="module")
def clips():
    """Two sounds (2, 1, T) of 3 s."""
    return sounds.noise(2, 1, 3 * RATE)


class TestTexts:
    @pytest.fixture(scope="class")
    def file(self, tmp_path_factory):
        return imagebind_twins.published(tmp_path_factory.mktemp("texts") / "imagebind_huge.pth", texts=True, dim=128)

    @pytest.fixture(scope="class")
    def reader(self, file):
        with torch.inference_mode():
            return encoders.load_any(str(file))

    def test_the_trunk_of_the_file(self, reader, file):
        assert isinstance(reader, HasAlignedText)
        texts = reader.aligned_text(None)
        found = texts.encode(WORDS)
        assert found.shape == (3, 128) and texts.dim == 128 and texts.prompt == "photo"
        assert texts.scale == pytest.approx(50, rel=1e-5) == text_scale(file)
        ids = [[49406, *texts._ids(word), 49407] for word in WORDS]
        near = 1e-5 if device.current() == "cpu" else 2e-3  # a GPU's host reads texts in half precision
        assert torch.allclose(
            found, imagebind_twins.original_texts(torch.load(file, weights_only=True), ids), atol=near
        )
        assert torch.allclose(texts.encode(WORDS[:1]), found[:1], atol=1e-6), "the batch changes nothing"
        assert reader.aligned_text(object()) is texts and len(texts.digest) == 16

    def test_the_host_has_its_memory(self, reader):
        texts = reader.aligned_text()
        before = texts.encode(WORDS)
        mm.unload_all_models()
        assert torch.equal(texts.encode(WORDS), before)
        mm.interrupt_current_processing(True)
        with pytest.raises(mm.InterruptProcessingException):
            texts.encode(WORDS)

    @needs_late
    def test_late_weights(self, reader, file, monkeypatch):
        expected = reader.aligned_text().encode(WORDS)
        monkeypatch.setattr("comfy.memory_management.aimdo_enabled", True)
        assert torch.equal(encoders.load_any(str(file)).aligned_text().encode(WORDS), expected)

    def test_a_trunk_that_is_not_whole(self, file, tmp_path):
        own = imagebind_twins.published(tmp_path / "hurt.pth", texts=True, dim=128)
        gone = "modality_trunks.text.blocks.1.mlp.fc2.bias"
        imagebind_twins.change(own, lambda tensors: {n: t for n, t in tensors.items() if n != gone})
        with pytest.raises(
            CheckpointError, match=r"does not fit: text_model\.encoder\.layers\.1\.mlp\.fc2\.bias is missing"
        ):
            encoders.load_any(str(own)).aligned_text().encode(WORDS)

    def test_by_the_clip_of_sd2(self, ear):
        clip = micro.build("sd2")[1]
        texts = ear.aligned_text(clip)
        found = texts.encode(WORDS)
        stock = [clip.encode_from_tokens(clip.tokenize(word), return_pooled=True)[1] for word in WORDS]
        assert torch.allclose(found, F.normalize(torch.cat(stock).float(), dim=-1), atol=1e-5)
        assert (texts.dim, texts.scale, len(texts.digest)) == (1024, 100.0, 16)

    def test_neither(self, ear):
        assert ear.aligned_text(None) is None and ear.aligned_text(micro.build("sd15")[1]) is None
        clip = micro.build("sd2")[1]
        clip.cond_stage_model.clip_h.transformer.text_projection.weight.data.zero_()
        with pytest.raises(CheckpointError, match=r"has no text_projection\.weight.*whole SD2\.x checkpoint"):
            ear.aligned_text(clip)

    def test_words_by_labels(self, reader, ear, clips, own_caches):
        """In every Stable Diffusion: by the texts of the file; without those only where the CLIP is SD2's."""
        feature, text = hear(reader, clips[:1]), reader.aligned_text()
        near = F.normalize(feature.vectors + 3 * class_texts(text, ["rain"], text.prompt), dim=-1)
        rainy = replace(feature, vectors=near)
        for family, width in (("sd15", {"clip_l": 768}), ("sd2", {"clip_h": 1024})):
            token, said = make_word(micro.build(family)[1], rainy)
            assert {key: rows.shape[-1] for key, rows in token.vectors.items()} == width
            assert said.startswith("Heard: rain ") and "imagebind_huge.pth's own texts" in said
        assert "SD2's texts" in make_word(micro.build("sd2")[1], hear(ear, clips[:1]))[1]
        with pytest.raises(
            TokenError, match=r"knows no words for.*imagebind_huge\.pth with its text .*SD2\.x.*Find Pictures for Sound"
        ):
            make_word(micro.build("sd15")[1], hear(ear, clips[:1]))

    def test_words_over_the_ridge(self, reader, clips, own_caches):
        feature, clip = hear(reader, clips[:1]), micro.build("sd15")[1]
        token, said = AAI_WordFromSound.execute(clip, feature, 1.0, 100, "ridge").result
        assert token.vectors["clip_l"].isfinite().all() and "clip_l: of " in said

    @pytest.fixture
    def own_caches(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folders.folder_paths, "get_user_directory", lambda: str(tmp_path))


def make_word(clip, feature):
    return AAI_WordFromSound.execute(clip, feature, 1.0, 0, "auto", labels="dog\nrain\nchurch bell").result
