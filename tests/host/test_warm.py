"""The warm start: towards the pictures in CLIP's own space, with no diffusion model in memory."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.start import initial_token
from aai_pack.aai_models.adapt.warm import spherical_distance
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import training, warm_start
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.base.vocabulary import word_statistics
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_training import state_of

pytestmark = pytest.mark.usefixtures("forgetful")
SMALL = AdaptConfig(steps=2, learning_rate=0.01, resolution=64, evaluate_every=2, held_out=2, start="warm_start")


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    return micro.vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr("aai_pack.aai_models.adapt.warm.STEPS", 12)


def train(models, vision, **changes):
    config = replace(SMALL, **changes)
    with torch.inference_mode():
        return training.train(*models, micro.sound()[None], [micro.pictures()], config, vision=vision)


@equal_trainings
def test_it_ends_nearer_to_the_pictures_and_keeps_its_size(models, vision):
    start = initial_token(micro.sound(), word_statistics(models[1]), SMALL)
    before = state_of(models)
    with torch.inference_mode():
        images = warm_start.image_features(vision, [micro.pictures()])
        assert images.shape == (3, 768)
        token, distances = warm_start.warmed(models[1], images, start, SMALL)
        again, _ = warm_start.warmed(models[1], images, start, SMALL)
    assert min(distances) < 0.98 * distances[0] and len(distances) == 12
    assert torch.equal(token.vectors["clip_l"], again.vectors["clip_l"])
    norms = [float(t.vectors["clip_l"].norm()) for t in (start, token)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert torch.equal(token.sound("clip_l"), start.sound("clip_l")), "the sound is frozen"
    assert state_of(models) == before


def test_no_diffusion_model_is_loaded_for_it(models, vision, monkeypatch):
    mm.unload_all_models()
    loaded, warmed = [], training.warmed

    def watched(*args):
        done = warmed(*args)
        loaded.extend(type(m.model.model).__name__ for m in mm.current_loaded_models)
        return done

    monkeypatch.setattr(training, "warmed", watched)
    done = train(models, vision)
    assert "BaseModel" not in loaded and any("Clip" in name or "CLIP" in name for name in loaded), loaded
    assert len(done.losses) == 2


def test_training_goes_on_from_there(models, vision, monkeypatch):
    """The token of step 0 is the warmed one, and its adapter is shared by all sounds."""
    seen = []
    evaluate = DiffusionLoss.__call__
    monkeypatch.setattr(
        DiffusionLoss,
        "__call__",
        lambda s, v, sample: (seen.append(v["clip_l"].detach().clone()), evaluate(s, v, sample))[1],
    )
    done = train(models, vision)
    start = initial_token(micro.sound(), word_statistics(models[1]), SMALL)
    with torch.inference_mode():
        expected, _ = warm_start.warmed(models[1], warm_start.image_features(vision, [micro.pictures()]), start, SMALL)
    assert torch.allclose(seen[0], expected.vectors["clip_l"], atol=1e-6)
    assert torch.isfinite(torch.tensor(done.losses)).all()


def test_the_distance_is_that_of_great_circles():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    angles = torch.tensor([torch.pi / 2, 0.0, torch.pi])
    assert float(spherical_distance(x, y)) == pytest.approx(float((angles.square() / 2).mean()), rel=2e-3)
    same = x.clone().requires_grad_(True)
    spherical_distance(same, x[None]).backward()
    assert bool(same.grad.isfinite().all())


def test_the_tower_of_another_encoder_warms_its_own(tmp_path, vision, monkeypatch):
    """ViT-bigG's pictures turn clip_g's row alone; ViT-L's clip_l's."""
    monkeypatch.setattr("aai_pack.aai_models.adapt.warm.STEPS", 2)
    models = micro.build("sdxl")
    for tower, key in ((vision, "clip_l"), (micro.vision(tmp_path, 1280), "clip_g")):
        start = initial_token(micro.sound(), word_statistics(models[1]), SMALL)
        with torch.inference_mode():
            token, _ = warm_start.warmed(models[1], warm_start.image_features(tower, [micro.pictures(1)]), start, SMALL)
        moved = [k for k in token.adapters if not torch.equal(token.adapters[k], start.adapters[k])]
        assert moved == [key]


class TestBadInput:
    def test_no_vision_model(self, models):
        with pytest.raises(TrainingError, match="no CLIP vision model"):
            train(models, None)

    def test_a_tower_of_another_width(self, models, tmp_path):
        with pytest.raises(TrainingError, match=r"gives 1024 values, but clip_l projects to 768 values"):
            train(models, micro.vision(tmp_path, 1024))

    def test_a_clip_without_projection(self, vision):
        models = micro.build(seed=2)
        with torch.inference_mode():
            models[1].cond_stage_model.clip_l.transformer.text_projection.weight.zero_()
        with pytest.raises(TrainingError, match=r"clip_l has no text projection.*Load CLIP"):
            train(models, vision)

    def test_a_cancel_leaves_the_clip_as_it_was(self, models, vision, monkeypatch):
        before, calls = state_of(models), []

        def cancel_later():
            calls.append(1)
            if len(calls) == 9:
                raise mm.InterruptProcessingException

        monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", cancel_later)
        with pytest.raises(mm.InterruptProcessingException):
            train(models, vision)
        assert state_of(models) == before
