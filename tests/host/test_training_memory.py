"""Memory: estimated before a step is taken, saved where it is short, and never an out-of-memory error."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.objective import NoisySample
from aai_pack.aai_models.adapt.start import initial_token
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import memory, training
from aai_pack.nodes.host.adapt.autograd import frozen_aliases, gradients
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.adapt.preview import Options
from aai_pack.nodes.host.base.vocabulary import word_statistics
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_training import state_of

pytestmark = pytest.mark.usefixtures("forgetful")
SMALL = AdaptConfig(steps=4, learning_rate=0.02, resolution=64, evaluate_every=4, held_out=2)


@pytest.fixture(scope="module")
def models():
    return micro.build()


def train(models, options=None, **changes):
    config = replace(SMALL, **changes)
    with torch.inference_mode():
        return training.train(*models, micro.sound()[None], [micro.pictures()], config, options=options)


def prepared_loss(models, side: int = 8):
    """(loss, vectors, sample) inside `gradients` and `frozen_aliases` of the caller."""
    model, clip, _ = models
    latents, noise = torch.randn(2, 2, 4, side, side, generator=torch.Generator().manual_seed(3))
    sample = NoisySample(latents, noise, model.model.model_sampling.sigmas[[300, 800]].clone(), prompt="a <A*>")
    vectors = initial_token(micro.sound(), word_statistics(clip), SMALL).vectors
    return DiffusionLoss(model, clip), {k: v.requires_grad_(True) for k, v in vectors.items()}, sample


def gradient(loss, vectors, sample):
    value = loss(vectors, sample)
    return float(value.detach()), torch.cat([g.flatten() for g in torch.autograd.grad(value, list(vectors.values()))])


@pytest.mark.parametrize("family", sorted(micro.FAMILIES))
def test_what_is_computed_again_is_the_same(family):
    models = micro.build(family)
    model, clip, _ = models
    with gradients(), training._prepared(model, clip), frozen_aliases(model.model, clip.cond_stage_model):
        loss, vectors, sample = prepared_loss(models)
        value, plain = gradient(loss, vectors, sample)
        with memory.recomputed(model.model.diffusion_model):
            assert all("forward" in vars(block) for block in memory.blocks(model.model.diffusion_model))
            again, saved = gradient(loss, vectors, sample)
        assert not any("forward" in vars(block) for block in memory.blocks(model.model.diffusion_model))
    assert again == pytest.approx(value, rel=1e-6)
    assert float((saved - plain).norm() / plain.norm()) < 1e-3


def test_a_run_in_little_memory_gives_the_same_word(models):
    before = state_of(models)
    plain, low = train(models), train(models, Options(low_memory=True))
    assert state_of(models) == before
    difference = low.token.vectors["clip_l"] - plain.token.vectors["clip_l"]
    assert float(difference.norm() / plain.token.vectors["clip_l"].norm()) < 1e-3
    assert low.losses == pytest.approx(plain.losses, rel=1e-3)


def kept_bytes(loss, vectors, sample, known) -> int:
    """What autograd really keeps of one evaluation, beside the weights."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss(vectors, sample)
    assert value.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize(("family", "side"), [("sd15", 8), ("sd15", 24), ("sdxl", 16)])
def test_the_estimate_is_what_is_kept(family, side):
    models = micro.build(family)
    model, clip, _ = models
    with gradients(), training._prepared(model, clip), frozen_aliases(model.model, clip.cond_stage_model):
        loss, vectors, sample = prepared_loss(models, side)
        need = memory.needs(model, loss, vectors, sample)
        weights = [t for m in loss.modules for t in (*m.parameters(), *m.buffers())]
        kept = kept_bytes(loss, vectors, sample, {t.untyped_storage().data_ptr() for t in weights})
        value, _ = gradient(loss, vectors, sample)
    spare = int(model.memory_required(list(sample.latents.shape)))
    assert need.plain - spare == pytest.approx(kept, rel=0.05)
    assert need.checkpointed < need.plain
    assert value > 0, "measuring leaves the model as it was"


def test_a_model_that_cannot_be_measured_is_estimated(models, monkeypatch):
    """A patch of another pack may ask a tensor for its values."""
    model, clip, _ = models
    with gradients(), training._prepared(model, clip), frozen_aliases(model.model, clip.cond_stage_model):
        loss, vectors, sample = prepared_loss(models)
        denoise = loss.denoise
        monkeypatch.setattr(loss, "denoise", lambda v, p, noisy, s: denoise(v, p, noisy * float(noisy.mean() > -9), s))
        need = memory.needs(model, loss, vectors, sample)
    spare = int(model.memory_required(list(sample.latents.shape)))
    assert need.plain == memory.FALLBACK * spare


class TestShortMemory:
    def free(self, monkeypatch, size: float):
        monkeypatch.setattr(mm, "get_free_memory", lambda *_, **__: size)

    def needs_of(self, models):
        model, clip, _ = models
        with gradients(), training._prepared(model, clip), frozen_aliases(model.model, clip.cond_stage_model):
            return memory.needs(model, *prepared_loss(models))

    def test_blocks_are_computed_again_where_that_is_enough(self, models, monkeypatch):
        chosen = []
        recomputed = memory.recomputed
        monkeypatch.setattr(memory, "recomputed", lambda network: (chosen.append(1), recomputed(network))[1])
        monkeypatch.setattr(memory, "needs", lambda *_: memory.Need(plain=10 * 2**20, checkpointed=2 * 2**20))
        self.free(monkeypatch, 5 * 2**20)
        train(models)
        assert chosen == [1]

    def test_too_little_is_said_before_the_first_step(self, models, monkeypatch):
        self.free(monkeypatch, 1000.0)
        before = state_of(models)
        monkeypatch.setattr(training.AdapterTrainer, "_train_one_step", lambda self: pytest.fail("a step was taken"))
        with pytest.raises(TrainingError, match=r"A step of 1 x 64 px takes about .* GB, and .* GB are free"):
            train(models)
        assert state_of(models) == before

    @pytest.mark.parametrize(
        "error",
        [
            mm.OOM_EXCEPTION("CUDA out of memory"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            MemoryError(),
        ],
        ids=["device", "machine", "python"],
    )
    def test_an_error_of_memory_goes_on_in_less(self, models, monkeypatch, error):
        expected = train(models)
        calls, evaluate = [], DiffusionLoss.__call__

        def fails_once(self, vectors, sample):
            calls.append(1)
            if len(calls) == 5:
                raise error
            return evaluate(self, vectors, sample)

        monkeypatch.setattr(DiffusionLoss, "__call__", fails_once)
        done = train(models)
        assert done.losses == pytest.approx(expected.losses, rel=1e-3)
        difference = done.token.vectors["clip_l"] - expected.token.vectors["clip_l"]
        assert float(difference.norm() / expected.token.vectors["clip_l"].norm()) < 1e-3

    def test_an_error_of_memory_that_stays_is_a_sentence(self, models, monkeypatch):
        before = state_of(models)
        calls, evaluate = [], DiffusionLoss.__call__

        def fails(self, vectors, sample):
            calls.append(1)
            if len(calls) > 3:
                raise mm.OOM_EXCEPTION("CUDA out of memory")
            return evaluate(self, vectors, sample)

        monkeypatch.setattr(DiffusionLoss, "__call__", fails)
        with pytest.raises(TrainingError, match=r"needs more.*GB are free.*Lower `batch_size`.*Its best token"):
            train(models)
        assert state_of(models) == before

    def test_a_model_that_does_not_fit_at_all(self, models, monkeypatch):
        def full(*_, **__):
            raise mm.OOM_EXCEPTION("CUDA out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(training.mm, "load_models_gpu", full)
            patch.setattr(models[2], "encode", lambda pixels: torch.zeros(1, 4, 8, 8))
            with pytest.raises(TrainingError, match=r"take 0\.\d GB, more than there is"):
                train(models)

    def test_other_errors_stay_what_they_are(self, models, monkeypatch):
        monkeypatch.setattr(DiffusionLoss, "__call__", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ")))
        with pytest.raises(RuntimeError, match="shapes differ"):
            train(models)


class TestFewBits:
    """Weights of half and of a quarter, as files store them."""

    @pytest.mark.parametrize(
        ("weights", "compute"),
        [
            (torch.float16, None),
            (torch.bfloat16, None),
            (torch.float8_e4m3fn, torch.float32),
            (torch.float8_e5m2, torch.bfloat16),
        ],
        ids=str,
    )
    def test_they_train_and_stay(self, weights, compute):
        models = micro.build(weights=weights, compute=compute)
        before = state_of(models)
        done = train(models)
        assert state_of(models) == before
        assert all(torch.isfinite(torch.tensor(done.losses)))
        assert float((done.token.adapters["clip_l"]).norm()) > 0

    @pytest.mark.parametrize("text", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
    def test_text_encoders_of_few_bits(self, text):
        """The host computes them in fp32: the gradient of the word is that of the same weights in fp32."""
        models = micro.build(text=text)
        before = state_of(models)
        done = train(models)
        assert state_of(models) == before
        assert models[1].cond_stage_model.clip_l.transformer.text_model.encoder.layers[0].mlp.fc1.weight.dtype == text
        assert all(torch.isfinite(torch.tensor(done.losses)))
        whole, found = micro.build(), []
        with torch.inference_mode():
            whole[1].cond_stage_model.load_state_dict(models[1].cond_stage_model.state_dict())
        for model, clip, _ in (models, whole):
            with gradients(), training._prepared(model, clip), frozen_aliases(model.model, clip.cond_stage_model):
                found.append(gradient(*prepared_loss((model, clip, None)))[1])
        assert float((found[0] - found[1]).norm() / found[1].norm()) < 1e-3

    def test_scaling_keeps_the_gradients_of_half_precision(self):
        """Against the gradient of the same weights in fp32: with the scale nearer, and never lost."""
        errors = {}
        for scale in (1.0, training.FP16_LOSS_SCALE):
            half = micro.build(weights=torch.float16)
            whole = micro.build(weights=torch.float16, compute=torch.float32)
            found = []
            for models in (whole, half):
                model, clip, _ = models
                with gradients(), training._prepared(model, clip), frozen_aliases(model.model, clip.cond_stage_model):
                    loss, vectors, sample = prepared_loss(models, 32)
                    (slope,) = torch.autograd.grad(loss(vectors, sample) * scale, list(vectors.values()))
                    found.append(slope / scale)
            errors[scale] = float((found[1] - found[0]).norm() / found[0].norm())
        assert errors[training.FP16_LOSS_SCALE] < 0.1
        assert errors[training.FP16_LOSS_SCALE] < errors[1.0]

    def test_half_precision_is_scaled_and_the_rest_is_not(self):
        scales = {
            (w, c): training._loss_scale(micro.build(weights=w, compute=c)[0])
            for w, c in ((torch.float32, None), (torch.float16, None), (torch.float16, torch.float32))
        }
        assert list(scales.values()) == [1.0, training.FP16_LOSS_SCALE, 1.0]
