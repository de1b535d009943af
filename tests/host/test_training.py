"""Training is training: gradients, repeatability, dtypes, and models that are left as they were."""

from __future__ import annotations

import hashlib

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.objective import NoisySample
from aai_pack.aai_models.adapt.start import initial_token
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import references, training
from aai_pack.nodes.host.adapt.frozen import frozen
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.base.vocabulary import word_statistics
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings

QUICK = AdaptConfig(steps=12, learning_rate=0.02, resolution=64, evaluate_every=4, batch_size=2)


pytestmark = pytest.mark.usefixtures("forgetful")


@pytest.fixture(scope="module")
def models():
    return micro.build()


def train(models, *, seed=0, sound=0, **changes):
    config = AdaptConfig(**{**vars(QUICK), "seed": seed, **changes})
    with torch.inference_mode():  # as the executor calls nodes
        done = training.train(*models, micro.sound(sound)[None], [micro.pictures()], config)
    return done.token, done.losses


def tensors_of(models):
    model, clip, vae = models
    modules = (model.model, clip.cond_stage_model, vae.first_stage_model)
    return [(name, t) for module in modules for name, t in [*module.named_parameters(), *module.named_buffers()]]


def state_of(models):
    """Content, flag and identity of every base weight. Whether it is an inference tensor is changed by the host's own moves."""
    with torch.inference_mode():
        return [
            (name, hashlib.sha256(t.float().cpu().numpy().tobytes()).hexdigest(), t.requires_grad, id(t))
            for name, t in tensors_of(models)
        ]


def test_gradient_agrees_with_finite_differences(models):
    model, clip, _ = models
    with frozen(model, clip) as whole:
        loss = DiffusionLoss(whole)
        generator = torch.Generator().manual_seed(3)
        latents, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
        sigmas = model.model.model_sampling.sigmas[500:501].detach().clone()
        sample = NoisySample(latents, noise, sigmas, prompt="a photo of <A*>")
        vector = initial_token(micro.sound(), word_statistics(clip), QUICK).vectors["clip_l"]
        vector.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss({"clip_l": vector}, sample), vector)
        direction = gradient / gradient.norm()
        for step in (2e-2, 1e-2):
            with torch.no_grad():
                up = loss({"clip_l": vector + step * direction}, sample).double()
                down = loss({"clip_l": vector - step * direction}, sample).double()
            slope = float((up - down) / (2 * step))
            assert slope == pytest.approx(float(gradient.norm()), rel=1e-2)


def test_loss_on_held_out_samples_falls(models):
    token, losses = train(models, steps=40, learning_rate=0.05)
    assert len(losses) == 40
    start, _ = train(models, steps=1, learning_rate=1e-6)
    assert float(token.metadata["held_out_loss"]) < 0.99 * float(start.metadata["held_out_loss"])
    assert int(token.metadata["step"]) > 0


@equal_trainings
def test_same_seed_same_token_other_sound_other_token(models):
    first, first_losses = train(models)
    again, again_losses = train(models)
    assert first_losses == again_losses
    assert torch.equal(first.vectors["clip_l"], again.vectors["clip_l"])
    assert not torch.equal(first.vectors["clip_l"], train(models, sound=1)[0].vectors["clip_l"])
    assert not torch.equal(first.vectors["clip_l"], train(models, seed=1)[0].vectors["clip_l"])


@pytest.mark.parametrize("dtypes", [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)], ids=str)
def test_cast_and_low_precision_weights_train(dtypes):
    token, losses = train(micro.build(weights=dtypes[0], compute=dtypes[1]), steps=6)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert bool(token.vectors["clip_l"].isfinite().all())


@pytest.mark.parametrize("ending", ["done", "cancelled", "failed"])
def test_models_are_left_as_they_were(models, ending, monkeypatch):
    before, was_training = state_of(models), getattr(mm, "in_training", None)
    if ending == "done":
        train(models)
    elif ending == "cancelled":
        calls = []

        def cancel_later():
            calls.append(1)
            if len(calls) == 8:
                raise mm.InterruptProcessingException

        monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", cancel_later)
        with pytest.raises(mm.InterruptProcessingException):
            train(models)
    else:
        with torch.inference_mode(), pytest.raises(TrainingError, match="must not be NaN"):
            # A feature that is not a number makes the first loss one, inside the prepared models.
            training.train(*models, torch.full((1, 768), float("nan")), [micro.pictures()], QUICK)
    assert state_of(models) == before
    assert getattr(mm, "in_training", None) == was_training
    assert models[0].model.current_patcher is None
    assert torch.is_inference_mode_enabled() is False


class TestBadInput:
    def test_no_pictures(self, models):
        with torch.inference_mode(), pytest.raises(TrainingError, match="no reference pictures"):
            training.train(*models, micro.sound()[None], [[torch.zeros(0, 8, 8, 3)]], QUICK)

    def test_pictures_that_are_not_numbers(self, models):
        bad = torch.full((1, 16, 16, 3), float("nan"))
        with torch.inference_mode(), pytest.raises(TrainingError, match="Reference picture 4"):
            training.train(*models, micro.sound()[None], [[*micro.pictures(), bad]], QUICK)

    @pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 8, 300, 3), (2, 40, 40, 4), (1, 32, 32, 1)], ids=str)
    def test_odd_pictures_work(self, models, shape):
        with torch.inference_mode():
            latents = references.encode_references(models[0], models[2], [torch.rand(shape)], 64)
        assert latents.shape == (shape[0], 4, 8, 8)

    def test_a_prompt_without_the_word(self, models):
        with pytest.raises(TrainingError, match="has no <A"):
            train(models, prompt="a photo of a dog")

    def test_a_model_that_inpaints(self, models):
        model = models[0].clone()
        config, before = model.model.model_config.unet_config, dict(model.model.model_config.unet_config)
        config["in_channels"] = 9
        try:
            with torch.inference_mode(), pytest.raises(TrainingError, match="9 input channels"):
                training.train(model, *models[1:], micro.sound()[None], [micro.pictures()], QUICK)
        finally:
            config.update(before)
