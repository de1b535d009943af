"""ImageBind in the host: weights late, moved, in part and in fp16; its sounds as pictures, beside pictures and beside texts."""

from __future__ import annotations

import copy
import importlib.util

import comfy.clip_vision
import comfy.model_management as mm
import comfy.model_patcher
import comfy.utils
import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.align import imagebind_files
from aai_pack.aai_models.align.imagebind import ImageBindAudio, ImageBindEncoder
from aai_pack.aai_models.align.imagebind_audio import mel_pictures
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.errors import CheckpointError, ExplainedError, LibraryError
from aai_pack.nodes.align import AAI_CAVTEncode, AAI_LoadCAVT
from aai_pack.nodes.host.base import folders
from aai_pack.nodes.host.base.types import AudioFeature
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.hear.imagebind import HostedImageBind
from aai_pack.nodes.image_embedding import AAI_SoundImageEmbedding
from aai_pack.nodes.retrieve import AAI_RetrieveImages
from aai_pack.tests import imagebind_twins, sounds
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import partial_load
from PIL import Image
from safetensors.torch import load_file

needs_late = pytest.mark.skipif(
    importlib.util.find_spec("comfy.memory_management") is None, reason="this host makes every weight at once"
)
RATE = 16000


@pytest.fixture(scope="module", autouse=True)
def inference():
    """As the host runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return imagebind_twins.published(tmp_path_factory.mktemp("imagebind") / "imagebind_huge.pth")


@pytest.fixture(scope="module")
def ear(path):
    with torch.inference_mode():
        return encoders.load_any(str(path))


@pytest.fixture(scope="module")
def outside(path):
    """The same trunk outside the host."""
    config, tensors = imagebind_files.read_trunk(path)
    return ImageBindEncoder(ImageBindAudio.from_tensors(tensors, config), path.name)


@pytest.fixture(scope="module")
def clips():
    """Two sounds (2, 1, T) of 3 s, each of another colour."""
    found = sounds.noise(2, 1, 3 * RATE)
    found[1] = found[1].diff(dim=-1, prepend=found[1, :, :1])
    return found


def hear(ear, waveform, **policies) -> AudioFeature:
    audio = {"waveform": waveform, "sample_rate": RATE}
    return AAI_CAVTEncode.execute(ear, audio, **{"short_clip": "tile", "long_clip": "first", **policies})[0]


def embedding(feature, norm=20.0, sounds="mean", picture=None, **options):
    return AAI_SoundImageEmbedding.execute(feature, norm, sounds, picture, **options)


class TestWeights:
    def test_it_is_the_same_in_the_host(self, ear, outside, clips):
        assert isinstance(ear, HostedImageBind) and "not for commercial use" in ear.note
        vectors, norms = ear.hear(clips, RATE)
        assert torch.allclose(vectors, outside.encode(clips, RATE), atol=2e-4)
        assert all(0 < norm <= 20.0001 for norm in norms)
        assert ear.get_ram_usage() == sum(p.nbytes for p in ear.model.parameters())

    def test_the_host_unloads_it(self, ear, clips):
        before = ear.encode(clips, RATE)
        assert any(loaded.model is ear.patcher for loaded in mm.current_loaded_models)
        mm.unload_all_models()
        assert not any(loaded.model is ear.patcher for loaded in mm.current_loaded_models)
        assert torch.equal(ear.encode(clips, RATE), before)

    @needs_late
    def test_late_weights(self, path, ear, clips, monkeypatch):
        monkeypatch.setattr("comfy.memory_management.aimdo_enabled", True)
        monkeypatch.setattr(comfy.utils, "load_safetensors", lambda path: (load_file(path), {}))
        found = encoders.load_any(str(path))
        assert torch.equal(found.encode(clips, RATE), ear.encode(clips, RATE))
        make, arguments = found.patcher.cached_patcher_init
        again = make(*arguments, disable_dynamic=True)
        assert type(again) is comfy.model_patcher.ModelPatcher and again.model is not found.model

    @partial_load
    def test_a_partial_load(self, ear, clips):
        before, patcher = ear.encode(clips, RATE), ear.patcher
        mm.unload_all_models()
        patcher.patch_model(device_to=torch.device("cpu"), lowvram_model_memory=patcher.model_size() // 3)
        assert 0 < patcher.loaded_size() < patcher.model_size() and ear.model.model_lowvram
        pictures = mel_pictures(clips, RATE).flatten(0, 1)
        try:
            found = ear.model.embed(ear.model(pictures).unflatten(0, (2, 3)))
        finally:
            patcher.unpatch_model(torch.device("cpu"))
        assert torch.allclose(F.normalize(found, dim=-1), before, atol=1e-6)
        assert torch.equal(ear.encode(clips, RATE), before)

    def test_fp16(self, path, ear, clips, tmp_path):
        half = imagebind_twins.published(tmp_path / "half.safetensors")
        imagebind_twins.change(half, lambda tensors: {n: t.half() for n, t in tensors.items()})
        found = encoders.load_any(str(half))
        assert found.model.projection.weight.dtype == torch.float16
        assert (F.cosine_similarity(found.encode(clips, RATE), ear.encode(clips, RATE)) > 0.9999).all()

    def test_two_at_once(self, path, ear, clips, tmp_path):
        other = encoders.load_any(str(imagebind_twins.published(tmp_path / "other.pth", seed=3)))
        expected = [e.encode(clips, RATE) for e in (ear, other)]
        assert not torch.allclose(*expected, atol=1e-3)
        assert all(
            torch.equal(e.encode(clips, RATE), x) for _ in range(2) for e, x in zip((ear, other), expected, strict=True)
        )

    def test_a_cancel_between_passes(self, ear, clips, monkeypatch):
        run, passes = ear._run, []

        def run_once(batch):
            found = run(batch)
            passes.append(len(batch))
            mm.interrupt_current_processing(True)
            return found

        monkeypatch.setattr(ear, "_run", run_once)
        with pytest.raises(mm.InterruptProcessingException):
            ear.encode(clips[:1].repeat(4, 1, 1), RATE)
        monkeypatch.undo()
        assert passes == [8] and ear.encode(clips, RATE).isfinite().all()

    def test_empty_weights(self, tmp_path):
        empty = imagebind_twins.published(tmp_path / "empty.pth")
        imagebind_twins.change(empty, lambda tensors: {n: torch.zeros_like(t) for n, t in tensors.items()})
        with pytest.raises(CheckpointError, match="hears no difference"):
            encoders.load_any(str(empty))

    def test_the_file_is_let_go(self, path, tmp_path):
        """No weight lies in the file's memory, which is 14 times as large."""
        own = imagebind_twins.published(tmp_path / "imagebind.pth")
        found = encoders.load_any(str(own))
        before = [p.clone() for p in found.model.parameters()]
        with own.open("r+b") as file:
            file.write(bytes(own.stat().st_size))
        assert all(torch.equal(*pair) for pair in zip(found.model.parameters(), before, strict=True))


class TestInTheMenu:
    def test_files_and_folders(self, monkeypatch, tmp_path):
        base = tmp_path / "audio_encoders"
        imagebind_twins.published(base / "imagebind_huge.pth")
        imagebind_twins.published(base / "imagebind-huge" / "model.safetensors", "transformers")
        (base / "imagebind-huge" / "config.json").write_text('{"model_type": "imagebind"}')
        (base / "whisper.safetensors").write_bytes(b"\0" * 300)
        monkeypatch.setattr(folders, "_encoder_folders", lambda: [base])
        monkeypatch.setitem(folders.folder_paths.folder_names_and_paths, folders.CAVT_FOLDER, ([], set()))
        listed = [name for name in folders.encoder_names() if name.startswith("audio_encoders/")]
        assert listed == ["audio_encoders/imagebind-huge", "audio_encoders/imagebind_huge.pth"]
        ears = [AAI_LoadCAVT.execute(name)[0] for name in listed]
        assert [e.name for e in ears] == ["imagebind-huge", "imagebind_huge.pth"]

    def test_a_training_file_of_a_clap_is_there_and_says_what_to_get(self, monkeypatch, tmp_path):
        content = {"module.audio_branch.norm.weight": torch.zeros(2), "module.text_branch.norm.weight": torch.zeros(2)}
        torch.save({"epoch": 15, "state_dict": content}, tmp_path / "630k-audioset-best.pt")
        torch.save({"weight": torch.zeros(2)}, tmp_path / "of another pack.pt")
        torch.save({"model": {"encoder.grep_linear.weight": torch.zeros(2)}}, tmp_path / "BEATs of AudioToken.pt")
        monkeypatch.setattr(folders, "_encoder_folders", lambda: [tmp_path])
        monkeypatch.setitem(folders.folder_paths.folder_names_and_paths, folders.CAVT_FOLDER, ([], set()))
        (name,) = (name for name in folders.encoder_names() if name.startswith("audio_encoders/"))
        with pytest.raises(CheckpointError, match="laion/clap-htsat-unfused is the same model"):
            AAI_LoadCAVT.execute(name)


class TestSoundAsImageEmbedding:
    def test_one_sound(self, ear, clips):
        feature = hear(ear, clips[:1])
        output, embeds = embedding(feature).result
        assert isinstance(output, comfy.clip_vision.Output) and output["image_embeds"] is embeds
        assert embeds.shape == (1, 1024) and embeds.dtype == torch.float32
        assert torch.allclose(embeds, 20 * feature.vectors, atol=1e-4)
        assert torch.allclose(embedding(feature, 7.0)[1], 7 * feature.vectors, atol=1e-4)
        assert not embedding(feature, 0.0)[1].any()

    def test_two_sounds(self, ear, clips):
        feature = hear(ear, clips)
        each = embedding(feature, sounds="each")[1]
        assert torch.allclose(each, 20 * feature.vectors, atol=1e-4)
        mean = embedding(feature)[1]
        published = ear.embed(clips, RATE).mean(dim=0, keepdim=True)
        assert torch.allclose(mean, 20 * F.normalize(published, dim=-1), atol=1e-4)
        with pytest.raises(ExplainedError, match="sounds is 'both'"):
            embedding(feature, sounds="both")

    def test_what_only_pictures_have(self, ear, clips):
        output = embedding(hear(ear, clips))[0]
        for name in ("last_hidden_state", "penultimate_hidden_states", "all_hidden_states", "image_sizes"):
            assert not hasattr(output, name)
            with pytest.raises(ExplainedError, match=f"asks for {name}, which a sound does not have.*IP-Adapter"):
                output[name]
        assert output.mm_projected is None and not hasattr(output, "other")
        assert torch.equal(copy.deepcopy(output).image_embeds, output.image_embeds)

    def test_a_picture_mixed_in(self, ear, clips, tmp_path):
        feature = hear(ear, clips)
        picture = micro.vision(tmp_path, 1024).encode_image(micro.pictures(1)[0])
        alone = embedding(feature)[1]
        assert torch.equal(embedding(feature, picture=picture, picture_share=0.0)[1], alone)
        half = embedding(feature, picture=picture, picture_share=0.5)[1]
        both = F.normalize(F.normalize(alone, dim=-1) + F.normalize(picture.image_embeds, dim=-1), dim=-1)
        assert torch.allclose(half, 20 * both, atol=1e-4)
        assert embedding(feature, sounds="each", picture=picture)[1].shape == (2, 1024)
        whole = embedding(feature, picture=picture, picture_share=1.0)
        assert whole[0] is picture and whole[1] is picture.image_embeds, "the stock workflow's own"

    def test_pictures_that_do_not_fit(self, ear, clips, tmp_path):
        feature = hear(ear, clips)
        narrow = micro.vision(tmp_path, 768).encode_image(micro.pictures(1)[0])
        with pytest.raises(ExplainedError, match=r"another size than the sound's: \(768,\) and 1024.*CLIP-ViT-H-14"):
            embedding(feature, picture=narrow)
        three = micro.vision(tmp_path, 1024).encode_image(micro.pictures(1)[0].repeat(3, 1, 1, 1))
        with pytest.raises(ExplainedError, match="3 pictures and 2 sounds"):
            embedding(feature, sounds="each", picture=three)

    def test_a_sound_of_another_encoder(self):
        feature = AudioFeature(torch.ones(1, 1024), "clap", aligned_with="")
        with pytest.raises(
            ExplainedError, match=r"clap does not hear in the space of CLIP Vision ViT-H.*imagebind_huge"
        ):
            embedding(feature)

    def test_silence(self, ear):
        with pytest.raises(AudioError, match=r"Sound 2 of 2 is silent"):
            hear(ear, torch.stack([sounds.noise(1, RATE), torch.zeros(1, RATE)]))


class TestPictures:
    @pytest.fixture
    def library(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folders.folder_paths, "get_user_directory", lambda: str(tmp_path / "user"))
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number, image in enumerate(micro.pictures(4)):
            Image.fromarray((image[0].numpy() * 255).astype("uint8")).save(folder / f"{number}.png")
        return folder

    def find(self, ear, feature, library, vision=None, k=4):
        return AAI_RetrieveImages.execute(ear, feature, str(library), k, -1.0, True, None, vision)

    def test_by_the_hosts_vision_model(self, ear, clips, library, tmp_path):
        feature, vision = hear(ear, clips[:1]), micro.vision(tmp_path, 1024)
        images, _, scores = self.find(ear, feature, library, vision).result
        assert len(images) == 4 and scores == sorted(scores, reverse=True) and scores[0] - scores[-1] > 1e-3
        for image, score in zip(images, scores, strict=True):
            seen = F.normalize(vision.encode_image(image)["image_embeds"], dim=-1)
            # Resized by Pillow for the library and by the host here.
            assert float((seen @ feature.vectors.T)[0]) == pytest.approx(score, abs=0.02)
        (index,) = (tmp_path / "user" / "aai_libraries").glob("*.safetensors")
        before = index.stat().st_mtime_ns
        assert self.find(ear, feature, library, vision)[2] == scores and index.stat().st_mtime_ns == before
        assert self.find(ear, feature, library, micro.vision(tmp_path, 1024, seed=4))[2] != scores, "seen anew"

    def test_without_one(self, ear, clips, library):
        with pytest.raises(LibraryError, match=r"cannot encode pictures.*CLIP-ViT-H-14 to `clip_vision`"):
            self.find(ear, hear(ear, clips[:1]), library)

    def test_another_one(self, ear, clips, library, tmp_path):
        with pytest.raises(LibraryError, match=r"gives features of 768 values.*CLIP-ViT-H-14"):
            self.find(ear, hear(ear, clips[:1]), library, micro.vision(tmp_path, 768))
        with pytest.raises(LibraryError, match="another kind of features"):
            self.find(ear, hear(ear, clips[:1]), library, torch.nn.Linear(2, 2))
