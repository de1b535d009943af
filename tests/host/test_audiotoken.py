"""AudioToken in the host: its weights are the host's, its rows are words of SD1.x at once, and training starts there."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import comfy.ops
import comfy.sd
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.align.aligned_text import HasLabels
from aai_pack.aai_models.align.audiotoken import files
from aai_pack.aai_models.align.audiotoken.encoder import audiotoken_input
from aai_pack.aai_models.align.audiotoken.model import AudioTokenNet
from aai_pack.aai_models.errors import CheckpointError, TokenError
from aai_pack.aai_models.shapes import shapes_of
from aai_pack.devtools import device
from aai_pack.nodes.align import AAI_CAVTEncode
from aai_pack.nodes.host.adapt import training
from aai_pack.nodes.host.adapt.carried import carry
from aai_pack.nodes.host.adapt.row_word import training_notes
from aai_pack.nodes.host.base.types import AudioFeature
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.inject import sound_files
from aai_pack.nodes.words import AAI_ApplyAdapter, AAI_WordFromSound
from aai_pack.tests import audiotoken_twin as twin
from aai_pack.tests import sounds
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import partial_load

pytestmark = pytest.mark.usefixtures("forgetful")
HERTZ = 16000
# On a GPU the host keeps these weights in half precision.
NEAR = {"rtol": 1e-4, "atol": 1e-5} if device.current() == "cpu" else {"rtol": 1e-2, "atol": 2e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return twin.write(tmp_path_factory.mktemp("encoders") / "AudioToken")


@pytest.fixture(scope="module")
def ear(folder):
    with torch.inference_mode():
        return encoders.load_any(str(folder))


@pytest.fixture(scope="module")
def expected(folder):
    """What the network says outside the host: rows and class probabilities of `clips`."""
    with torch.inference_mode():
        return files.read_files(folder).build()(audiotoken_input(clips(), HERTZ).flatten(0, 1))


def clips(count: int = 2) -> torch.Tensor:
    """Short sounds (count, 1, T), each of another colour."""
    found = sounds.noise(count, 1, 20000)
    found[1:] = 0.5 * found[1:].diff(dim=-1, prepend=found[1:, :, :1])
    return found


@torch.inference_mode()
def row(ear, waveform: torch.Tensor) -> torch.Tensor:
    vectors, norms = ear.hear(waveform, HERTZ)
    return vectors * torch.tensor(norms)[:, None]


@torch.inference_mode()
def heard(ear, waveform: torch.Tensor, **policies) -> AudioFeature:
    """Through the node."""
    audio = {"waveform": waveform, "sample_rate": HERTZ}
    return AAI_CAVTEncode.execute(ear, audio, "tile", "first", **policies)[0]


@pytest.fixture(scope="module")
def clip():
    return micro.build()[1]


@pytest.fixture(scope="module")
def clip_h():
    return micro.build("sd2")[1]


class TestWeights:
    def test_it_hears_what_it_hears_outside(self, ear, expected):
        assert torch.allclose(row(ear, clips()), expected[0], **NEAR)
        assert ear.encode(clips(), HERTZ).norm(dim=-1).tolist() == pytest.approx([1, 1], abs=1e-5)
        assert (ear.aligned_with, ear.dim, ear.has_images, ear.centre, ear.note) == (
            "clip_l_rows",
            768,
            False,
            None,
            "",
        )

    def test_the_table_is_that_of_the_hosts_layers(self, ear):
        table = shapes_of(lambda: AudioTokenNet(twin.config()))
        assert table == {name: tuple(tensor.shape) for name, tensor in ear.model.state_dict().items()}

    def test_half_precision(self, folder, expected):
        with torch.inference_mode():
            net = files.read_files(folder).build(operations=comfy.ops.manual_cast, dtype=torch.float16)
            assert {p.dtype for p in net.parameters()} == {torch.float16}
            rows, probabilities = net(audiotoken_input(clips(), HERTZ).flatten(0, 1))
        assert rows.dtype == probabilities.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(rows, expected[0]).min() > 0.99

    @partial_load
    def test_a_partial_load_gives_the_same(self, ear, expected):
        patcher = ear.patcher
        with torch.inference_mode():
            mm.unload_all_models()
            patcher.patch_model(device_to=torch.device("cpu"), lowvram_model_memory=patcher.model_size() // 3)
            assert 0 < patcher.loaded_size() < patcher.model_size()
            rows, _ = ear.model(audiotoken_input(clips(), HERTZ).flatten(0, 1))
            patcher.unpatch_model(torch.device("cpu"))
        assert torch.allclose(rows, expected[0], **NEAR)

    def test_the_host_loads_and_unloads_it(self, ear):
        row(ear, sounds.noise(1, 1, 9000))
        assert any(loaded.model is ear.patcher for loaded in mm.current_loaded_models)
        mm.unload_all_models()
        assert not any(loaded.model is ear.patcher for loaded in mm.current_loaded_models)
        assert ear.get_ram_usage() > 2**20

    def test_a_cancel_between_sounds(self, ear, monkeypatch):
        passes, run = [], ear.run

        def counted(fbank):
            passes.append(1)
            result = run(fbank)
            mm.interrupt_current_processing(True)
            return result

        monkeypatch.setattr(ear, "run", counted)
        with pytest.raises(mm.InterruptProcessingException):
            row(ear, sounds.noise(3, 1, 8000))
        assert len(passes) == 2
        mm.interrupt_current_processing(False)
        monkeypatch.undo()
        assert row(ear, sounds.noise(3, 1, 8000)).isfinite().all(), "nothing is left of the cancelled run"

    def test_empty_weights(self, tmp_path):
        empty = {n: torch.zeros(s) for n, s in files.embedder_shapes(twin.config()).items()}
        twin.write(tmp_path, embedder=empty)
        with torch.inference_mode(), pytest.raises(CheckpointError, match="hears no difference"):
            encoders.load_any(str(tmp_path))


class TestWhatItSays:
    def test_a_seed_gives_another_word_and_the_same_again(self, folder, ear):
        with torch.inference_mode():
            seeded = [encoders.load_any(str(folder), seed) for seed in (0, 0, 1)]
        words = [row(one, clips(1)) for one in (ear, *seeded)]
        assert torch.equal(words[1], words[2])
        assert not torch.allclose(words[0], words[1], rtol=1e-3) and not torch.allclose(words[1], words[3], rtol=1e-3)
        assert seeded[0].name == "AudioToken (dropout 0)"
        # A word shared by both would be of two encoders.
        with pytest.raises(TokenError, match="by AudioToken and by AudioToken"):
            AudioFeature.joined([heard(ear, clips(1)), heard(seeded[0], clips(1))])

    def test_a_batch_equals_each_alone(self, ear):
        alone = torch.cat([row(ear, clip[None]) for clip in clips()])
        assert torch.allclose(row(ear, clips()), alone, atol=1e-5)

    def test_all_of_a_long_sound(self, ear):
        long = sounds.noise(1, 1, HERTZ * 20)
        vectors, norms = ear.hear(long, HERTZ, long_clip="mean_of_windows")
        halves = row(ear, long.reshape(2, 1, -1))
        assert torch.allclose(vectors * norms[0], halves.mean(0, keepdim=True), **NEAR)

    def test_its_own_labels(self, ear, expected, monkeypatch):
        assert isinstance(ear, HasLabels)
        passes, run = [], ear.run
        monkeypatch.setattr(ear, "run", lambda fbank: passes.append(1) or run(fbank))
        feature = heard(ear, clips())
        assert len(passes) == 2, "one pass for each sound gives both"
        assert len(feature.labels) == 2 and feature.ear is ear
        for shares, probabilities in zip(feature.labels, expected[1], strict=True):
            best = ear._classes[int(probabilities.argmax())]
            assert shares[0] == (best, pytest.approx(float(probabilities.max() / probabilities.sum()), rel=1e-3))
            assert sum(share for _, share in shares) == pytest.approx(1.0) and len(shares) == 527

    def test_without_names_for_its_classes(self, tmp_path):
        content = twin.beats_content()
        del content["label_dict"]
        with torch.inference_mode():
            ear = encoders.load_any(str(twin.write(tmp_path, beats=content)))
        assert heard(ear, clips()).labels == () and "does not name its classes" in ear.note


class TestWordFromSound:
    @torch.inference_mode()
    def make(self, clip, feature, gain=1.0, **options):
        return AAI_WordFromSound.execute(clip, feature, gain, 0, **{"bridge": "auto", **options}).result

    def test_the_word_is_the_row(self, clip, ear, expected):
        token, said = self.make(clip, heard(ear, clips(1)))
        assert torch.allclose(token.vectors["clip_l"], expected[0][:1], **NEAR)
        assert torch.allclose(
            self.make(clip, heard(ear, clips(1)), 0.5)[0].vectors["clip_l"], 0.5 * token.vectors["clip_l"]
        )
        length = float(expected[0][0].norm())
        assert f"AudioToken's own, {length:.2f} long (ordinary words: 0." in said and "needs no bridge" in said
        label = ear.label_shares(clips(1), HERTZ)[0][0]
        assert said.startswith(f"Heard: {label[0]} {label[1]:.2f}, ") and "Drawn as" not in said

    def test_whatever_the_bridge(self, clip, ear):
        """Nothing crosses one, and none is built."""
        first, *others = (self.make(clip, heard(ear, clips(1)), bridge=kind)[0] for kind in ("auto", "ridge", "phi"))
        assert not first.directions
        assert all(torch.equal(first.vectors["clip_l"], other.vectors["clip_l"]) for other in others)

    def test_towards_ordinary_words(self, clip, ear):
        plain, moved = (self.make(clip, heard(ear, clips(1)), nearest_words=share)[0] for share in (0.0, 0.5))
        lengths = [float(token.vectors["clip_l"].norm()) for token in (plain, moved)]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
        assert not torch.allclose(plain.vectors["clip_l"], moved.vectors["clip_l"], rtol=1e-2)

    @pytest.mark.parametrize(("family", "found"), [("sd2", "clip_h"), ("sdxl", r"clip_g \(1280 wide\) and clip_l")])
    def test_other_families(self, ear, clip_h, family, found):
        other = clip_h if family == "sd2" else micro.build(family)[1]
        words = f"reads words by {found}.*AudioToken's own words are for clip_l .* SD1.x.*to labels.*Train Audio Token"
        feature = heard(ear, clips(1))
        for unable, kind in ((feature, "ridge"), (replace(feature, labels=()), "auto")):
            with pytest.raises(TokenError, match=words):
                self.make(other, unable, bridge=kind)
        token, said = self.make(other, feature)
        assert set(token.vectors) == set(micro.WIDTHS[family]) and token.metadata["bridge"] == "labels"
        assert "Heard: " in said and "Drawn as: " in said and "own words are for clip_l alone" in said
        asked, _ = self.make(other, feature, bridge="labels")
        assert all(torch.equal(asked.vectors[key], rows) for key, rows in token.vectors.items())
        with torch.inference_mode():
            assert AAI_ApplyAdapter.execute(token, heard(ear, clips()[1:]), 1.0, other)[0].directions

    def test_its_labels_on_request(self, clip, ear):
        token, said = self.make(clip, heard(ear, clips(1)), bridge="labels")
        assert token.directions and "Drawn as: " in said
        said = self.make(clip, heard(ear, clips(1)), words="kettle")[1]
        assert "Drawn as written: kettle" in said and "Heard: " in said

    def test_it_is_saved_and_takes_another_sound(self, clip, ear, expected, tmp_path):
        token, _ = self.make(clip, heard(ear, clips(1)))
        token.save(tmp_path / "word.safetensors")
        loaded = AudioToken.load(tmp_path / "word.safetensors")
        assert torch.equal(loaded.vectors["clip_l"], token.vectors["clip_l"])
        with torch.inference_mode():
            other = AAI_ApplyAdapter.execute(loaded, heard(ear, clips()[1:]), 1.0)[0]
        assert torch.allclose(other.vectors["clip_l"], expected[0][1:], **NEAR)

    def test_a_sound_of_another_encoder(self, clip, ear):
        """The width is the same, the space is not."""
        token, _ = self.make(clip, heard(ear, clips(1)))
        stranger = AudioFeature(micro.sound()[None], "cav_mae.pth", norms=(1.0,))
        with pytest.raises(TokenError, match="is AudioToken's, the new one is not AudioToken's"):
            AAI_ApplyAdapter.execute(token, stranger, 1.0)
        learned = AudioToken(micro.sound(), {"clip_l": torch.zeros(1, 768)}, {"clip_l": 0.4})
        with pytest.raises(TokenError, match="is not AudioToken's, the new one is AudioToken's"):
            AAI_ApplyAdapter.execute(learned, heard(ear, clips(1)), 1.0)

    def test_a_folder_of_sounds(self, clip, clip_h, ear, tmp_path):
        sounds.write_wav(tmp_path / "rain.wav", clips(1)[0, 0].numpy())
        with torch.inference_mode():
            word, other = (sound_files.sound_files(str(tmp_path), ear, c)["rain"].word() for c in (clip, clip_h))
        assert word.metadata["aligned_with"] == "clip_l_rows" and not word.directions
        assert other.metadata["bridge"] == "labels" and set(other.vectors) == {"clip_h"}


class TestTraining:
    def train(self, feature, **settings):
        config = AdaptConfig(**{"steps": 1, "resolution": 64, "held_out": 1, "start": "zero", **settings})
        with torch.inference_mode():
            return training.train(*micro.build(), feature, [micro.pictures()], config)

    def test_it_starts_at_the_word(self, ear, expected):
        done = self.train(heard(ear, clips(1)), scale="raw", bridge="auto", learning_rate=1e-6)
        assert torch.allclose(done.token.vectors["clip_l"], expected[0][:1], **NEAR)
        said = done.report.text()
        assert "is AudioToken's word for clip_l, where this word begins." in said and "Heard: " in said
        assert done.token.metadata["aligned_with"] == "clip_l_rows"

    def test_at_another_length(self, ear, expected):
        done = self.train(heard(ear, clips(1)), bridge="auto", learning_rate=1e-6)
        assert torch.nn.functional.cosine_similarity(done.token.vectors["clip_l"], expected[0][:1]) > 0.9999
        assert f"raw keeps its own, {float(expected[0][0].norm()):.2f})" in done.report.text()

    def test_what_it_says_to_other_text_encoders(self, ear):
        feature = heard(ear, clips(1))
        said = training_notes(feature, ["clip_g", "clip_l"], AdaptConfig(scale="raw"))
        assert said[0].endswith("where this word begins.") and said[1].startswith("For clip_g the sound is no word")
        (said,) = training_notes(feature, ["clip_h"], AdaptConfig())
        assert said.startswith("For clip_h the sound is no word") and said.endswith("`bridge` labels does.")
        assert training_notes(feature, ["clip_l"], AdaptConfig(mode="adapter_only")) == (), "the sound takes no part"

    @torch.inference_mode()
    def test_where_each_way_begins(self, clip, clip_h, ear):
        feature = heard(ear, clips())
        plain, auto = (carry(clip, feature, AdaptConfig(bridge=way)) for way in ("none", "auto"))
        assert plain == auto and not auto.directions and len(auto.origin) == 2
        assert auto.candidates[0] == feature.labels[0][0][0] and auto.notes[0].startswith("Heard: ")
        labels, other = (
            carry(clip, feature, AdaptConfig(bridge="labels")),
            carry(clip_h, feature, AdaptConfig(bridge="auto")),
        )
        assert set(labels.directions[0]) == {"clip_l"} and set(other.directions[0]) == {"clip_h"}
        nothing = carry(clip_h, replace(feature, labels=()), AdaptConfig(bridge="auto"))
        assert not nothing.directions and "For clip_h the sound is no word" in nothing.notes[0]

    def test_no_bridge_is_crossed(self, ear):
        with pytest.raises(TokenError, match=r"words of CLIP-L already.*none or auto"):
            self.train(heard(ear, clips(1)), bridge="ridge")


def test_the_lora_is_loaded_by_the_host():
    """Its keys are those of diffusers: Load LoRA takes them, and all of them change the model."""
    model, _, _ = micro.build()
    with torch.inference_mode():
        changed, _ = comfy.sd.load_lora_for_models(model, None, twin.lora(width=32), 1.0, 0.0)
    block = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1"
    assert set(changed.patches) == {f"{block}.to_{part}.weight" for part in ("q", "k", "v", "out.0")}
