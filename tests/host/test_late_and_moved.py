"""Weights as a GPU has them: made late (layers without any until a file is read), streamed, and moved between devices.

The other tests of this folder run with moved weights (see conftest.py); here is what concerns late ones, and both together.
"""

from __future__ import annotations

import importlib.util
import inspect

import comfy.model_management as mm
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.utils
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_pack.aai_models.errors import CheckpointError, PocketError, TrainingError
from aai_pack.aai_models.shapes import shapes_of
from aai_pack.devtools import device
from aai_pack.nodes.host.adapt import training
from aai_pack.nodes.host.adapt.autograd import frozen_aliases, gradients
from aai_pack.nodes.host.base import digest
from aai_pack.nodes.host.base.prompt_words import encode
from aai_pack.nodes.host.base.vocabulary import vocabulary_rows
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.inject import loudness
from aai_pack.nodes.host.pocket import models as pocket_models
from aai_pack.pocket.models import weights
from aai_pack.tests import audiotoken_twin
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_training import state_of
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.usefixtures("forgetful")
HAS_LATE = importlib.util.find_spec("comfy.memory_management") is not None
needs_late = pytest.mark.skipif(not HAS_LATE, reason="this host makes every weight at once")
SMALL = AdaptConfig(steps=4, learning_rate=0.02, resolution=64, evaluate_every=4, held_out=2)
TINY = CAVTMAEConfig(dim=64, patch=32, depth=1, mlp_dim=64, audio_tokens=128, image_tokens=49)


@pytest.fixture
def make_late(monkeypatch):
    """From the call on layers are made without weights, as a host does that streams them.

    Its reader maps files by a library of NVIDIA's systems, for which safetensors stands in here.
    """

    def switch() -> None:
        monkeypatch.setattr("comfy.memory_management.aimdo_enabled", True)
        monkeypatch.setattr(comfy.utils, "load_safetensors", lambda path: (load_file(path), {}))

    return switch


@pytest.fixture
def late(make_late):
    make_late()


def load_pocket():
    with torch.inference_mode():
        return pocket_models.load_pocket()


@pytest.fixture(scope="module")
def ordinary():
    return load_pocket()


def draw(model, clip, conditioning=None):
    with torch.inference_mode():
        positive = conditioning or encode(clip, "a photo of a dog on a beach", {})
        latent = torch.zeros(1, 4, 16, 16)
        noise = comfy.sample.prepare_noise(latent, 3)
        empty = encode(clip, "", {})
        return micro.sampled(model, noise, 3, 4.0, "euler", "normal", positive, empty, latent, seed=3)


@pytest.fixture
def cavt_file(tmp_path):
    path = tmp_path / "cavt.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in CAVTMAE.fresh(TINY, 5).state_dict().items()}, path)
    return path


@needs_late
class TestLate:
    def test_the_pocket_is_the_same(self, late, ordinary):
        found = load_pocket()
        assert torch.equal(draw(*found[:2]), draw(*ordinary[:2]))
        sound, picture = torch.randn(1, 1, 160000) * 0.1, torch.rand(1, 64, 64, 3)
        with torch.inference_mode():
            assert torch.equal(found.encoder.hear(sound, 16000)[0], ordinary.encoder.hear(sound, 16000)[0])
            assert torch.equal(found.vae.encode(picture), ordinary.vae.encode(picture))
            seen = [p.vision.encode_image(picture)["image_embeds"] for p in (found, ordinary)]
            assert torch.equal(*seen)

    def test_an_encoder_from_a_file_is_the_same(self, cavt_file, make_late):
        fbank = torch.randn(2, 1024, 128)
        with torch.inference_mode():
            expected = encoders.load(str(cavt_file)).encode_audio(fbank)
            make_late()
            found = encoders.load(str(cavt_file))
            assert torch.equal(found.encode_audio(fbank), expected)
            # What a host does that wants one more which is not streamed.
            make, arguments = found.patcher.cached_patcher_init
            again = make(*arguments, disable_dynamic=True)
            assert type(again) is comfy.model_patcher.ModelPatcher and again.model is not found.model

    def test_audiotoken_is_the_same(self, tmp_path, make_late):
        folder, fbank = audiotoken_twin.write(tmp_path), torch.randn(2, 160, 128)
        with torch.inference_mode():
            expected = encoders.load_any(str(folder)).run(fbank)
            make_late()
            found = encoders.load_any(str(folder))
            assert all(torch.equal(*pair) for pair in zip(found.run(fbank), expected, strict=True))
            make, arguments = found.patcher.cached_patcher_init
            again = make(*arguments, disable_dynamic=True)
            assert type(again) is comfy.model_patcher.ModelPatcher and again.model is not found.model

    def test_a_file_that_lacks_something_is_refused(self, late, cavt_file):
        tensors = comfy.utils.load_torch_file(str(cavt_file))
        del tensors["blocks_u.0.mlp.fc1.weight"]
        save_file(tensors, cavt_file)
        with torch.inference_mode(), pytest.raises(CheckpointError, match="lacks 1 encoder tensors"):
            encoders.load(str(cavt_file))

    def test_pocket_weights_that_do_not_fit_are_refused(self, late):
        parts, about = weights.load()
        parts["unet"]["out.2.bias"] = torch.zeros(3)
        with torch.inference_mode(), pytest.raises(PocketError, match=r"UNet.*out\.2\.bias"):
            pocket_models.build_pocket(parts, about)

    @equal_trainings
    def test_a_word_is_trained(self, late, ordinary):
        losses = []
        for models in (ordinary, load_pocket()):
            with torch.inference_mode():
                done = training.train(*models[:3], micro.sound()[None], [micro.pictures()], SMALL)
            losses.append(done.losses)
        assert losses[0] == losses[1]

    def test_loudness_without_a_model(self, late, ordinary):
        """Hooks on a conditioning make the host work on the model's plain weights."""
        found = load_pocket()
        scaled = loudness.hooked(loudness.scaled(encode(found.clip, "a dog", {}), "dog", 1.5, 0.0, 1.0, "own"))
        drawn = draw(found.model.clone(disable_dynamic=True), found.clip, scaled)
        assert torch.equal(drawn, draw(*ordinary[:2], scaled))
        assert not torch.equal(drawn, draw(*ordinary[:2], encode(found.clip, "a dog", {})))

    def test_merging_and_save_checkpoint(self, late, ordinary, tmp_path):
        found = load_pocket()
        with torch.inference_mode():
            merged = found.model.clone()
            merged.add_patches(ordinary.model.get_key_patches("diffusion_model."), 0.5, 0.5)
            # Half of each of two equal models is the same model, but for rounding.
            same, rounded = draw(*ordinary[:2]), draw(merged, found.clip)
            assert (rounded - same).norm() < (1e-5 if device.current() == "cpu" else 2e-2) * same.norm()
            path = tmp_path / "saved.safetensors"
            comfy.sd.save_checkpoint(str(path), found.model, found.clip, found.vae)
        saved, expected = comfy.utils.load_torch_file(str(path)), ordinary.model.model.diffusion_model.state_dict()
        for name, tensor in expected.items():
            assert torch.equal(saved[f"model.diffusion_model.{name}"].float(), tensor.cpu().float()), name

    def test_the_hosts_own_training(self, late, ordinary):
        from comfy_extras.nodes_train import TrainLoraNode

        found = load_pocket()
        values = {
            "model": found.model,
            "latents": {"samples": torch.randn(1, 4, 16, 16)},
            "positive": encode(found.clip, "a dog", {}),
            **{"batch_size": 1, "steps": 1, "grad_accumulation_steps": 1, "learning_rate": 1e-4, "rank": 1},
            **{"optimizer": "AdamW", "loss_function": "MSE", "seed": 0, "training_dtype": "fp32", "lora_dtype": "fp32"},
            **{"quantized_backward": False, "algorithm": "LoRA", "gradient_checkpointing": False},
            **{"checkpoint_depth": 1, "offloading": False, "existing_lora": "[None]", "bucket_mode": False},
            "bypass_mode": False,
        }
        if "quantized_backward" not in inspect.signature(TrainLoraNode.execute).parameters:
            pytest.skip("the training of older hosts takes no weights that were made late, see docs/reliability.md")
        lists = {name: [value] for name, value in values.items()}
        with torch.inference_mode():
            done = TrainLoraNode.execute(**lists)
        lora, losses = done.result[0], done.result[1]["loss"]
        assert lora and len(losses) == 1
        assert torch.equal(draw(*found[:2]), draw(*ordinary[:2]))


def test_the_tables_are_the_hosts(ordinary):
    """Names and shapes from the configuration alone are those of the modules that the host makes."""
    pairs = {
        "UNet": ordinary.model.model.diffusion_model,
        "VAE": ordinary.vae.first_stage_model,
        "text encoder": ordinary.clip.cond_stage_model.clip_l.transformer,
    }
    for part, module in pairs.items():
        assert pocket_models._expected(part) == {n: tuple(t.shape) for n, t in module.state_dict().items()}
    model = CAVTMAE.fresh(TINY)
    assert shapes_of(lambda: CAVTMAE(TINY)) == {n: tuple(t.shape) for n, t in model.state_dict().items()}


class Streamed(comfy.model_patcher.ModelPatcher):
    """A patcher that says it is dynamic, as on a GPU; the host reroutes its own to the plain class on a CPU."""

    def is_dynamic(self):
        return True


@needs_late
class TestStreamed:
    """Models whose weights the host streams: a training takes plain copies, and leaves them alone."""

    def streamed(self, source: bool = True):
        """(streamed models, where each copy was asked for)."""
        model, clip, vae = micro.build()
        asked = []

        def again(index, disable_dynamic=False):
            asked.append((index, disable_dynamic))
            whole = micro.build()
            return (whole[0], whole[1].patcher)[index]

        streamed = [Streamed(p.model, p.load_device, p.offload_device) for p in (model, clip.patcher)]
        for index, patcher in enumerate(streamed):
            patcher.object_patches = (model, clip.patcher)[index].object_patches
            patcher.force_cast_weights = (model, clip.patcher)[index].force_cast_weights
            if source:
                patcher.cached_patcher_init = (again, (index,))
        clip.patcher = streamed[1]
        return (streamed[0], clip, vae), asked

    @equal_trainings
    def test_a_word_is_trained_on_plain_copies(self):
        models, asked = self.streamed()
        before = state_of((models[0], models[1], models[2]))
        with torch.inference_mode():
            done = training.train(*models, micro.sound()[None], [micro.pictures()], SMALL)
            expected = training.train(*micro.build(), micro.sound()[None], [micro.pictures()], SMALL)
        assert asked == [(0, True), (1, True)]
        assert done.losses == expected.losses
        assert state_of((models[0], models[1], models[2])) == before

    def test_a_loader_that_gives_no_copies(self):
        models, _ = self.streamed(source=False)
        with torch.inference_mode(), pytest.raises(TrainingError, match="--disable-dynamic-vram"):
            training.train(*models, micro.sound()[None], [micro.pictures()], SMALL)


def test_what_was_moved_can_be_trained_through_and_is_put_back():
    """A weight whose data came from inference mode says that it is ordinary and keeps no version."""
    with torch.inference_mode():
        layer = torch.nn.Linear(4, 4)
        moved = layer.weight.data.clone()
    layer.weight.data = moved
    own = dict(layer._parameters)
    with gradients(), frozen_aliases(layer):
        x = torch.ones(1, 4, requires_grad=True)
        layer(x).square().sum().backward()
        assert not any(p.requires_grad for p in layer.parameters())
    assert x.grad.abs().sum() > 0
    assert all(layer._parameters[name] is tensor for name, tensor in own.items())


def test_what_was_moved_outside_of_inference_mode_can_be_read():
    """As on Unload Models, which the host does outside of nodes: PyTorch gives no views of such weights."""
    models = micro.build()
    known = [digest.patched_digest(patcher) for patcher in (models[0], models[1].patcher)]
    rows = vocabulary_rows(models[1], "clip_l")[3:5].clone()
    for module in (models[0].model, models[1].cond_stage_model):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
    weight = models[0].model.diffusion_model.out[2].weight
    with pytest.raises(RuntimeError, match="Inference tensors do not track version counter"):
        weight.detach().view(-1)
    assert [digest.patched_digest(patcher) for patcher in (models[0], models[1].patcher)] == known
    assert torch.equal(vocabulary_rows(models[1], "clip_l")[3:5], rows)


def test_an_encoder_that_is_loaded_outside_of_inference_mode(cavt_file):
    """The host's load moves its weights; what is asked of it in a node afterwards must not find them spoiled."""
    with torch.inference_mode():
        ear = encoders.load_any(str(cavt_file))
        mm.unload_all_models()
    ear.patcher.model.aai_was_moved = False  # so that the double of a GPU moves it once more
    with torch.no_grad():
        ear.encode_image(torch.zeros(1, 3, 224, 224))
    with torch.inference_mode():
        assert all(p.view(-1).numel() for p in ear.model.parameters())


@pytest.mark.parametrize("ending", ["done", "cancelled", "failed"])
def test_what_runs_next_finds_the_weights_as_they_were(ending, monkeypatch):
    """Moved before, trained through, and then a stock run: the same bits, the same objects on the same storage."""
    models = micro.build()
    with torch.inference_mode():
        mm.load_models_gpu([models[0], models[1].patcher])
    places = [(p, p.data_ptr()) for m in (models[0].model, models[1].cond_stage_model) for p in m.parameters()]
    stock = draw(*models[:2])
    if ending == "cancelled":
        monkeypatch.setattr(training.AdapterTrainer, "_train_one_step", _cancel)
    if ending == "failed":
        monkeypatch.setattr(training.AdapterTrainer, "_train_one_step", _fail)
    with torch.inference_mode():
        try:
            training.train(*models, micro.sound()[None], [micro.pictures()], SMALL)
        except (mm.InterruptProcessingException, ZeroDivisionError):
            assert ending != "done"
    found = [(p, p.data_ptr()) for m in (models[0].model, models[1].cond_stage_model) for p in m.parameters()]
    assert all(a[0] is b[0] and a[1] == b[1] for a, b in zip(places, found, strict=True))
    assert torch.equal(draw(*models[:2]), stock)


def _cancel(_trainer):
    raise mm.InterruptProcessingException


def _fail(_trainer):
    raise ZeroDivisionError
