"""Memory: three ways to compute a step, the same word by each, and a sentence in place of an out-of-memory error."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.objective import NoisySample
from aai_pack.aai_models.adapt.start import initial_token
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import autograd, memory, training
from aai_pack.nodes.host.adapt.frozen import frozen
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


def prepared_loss(whole, side: int = 8):
    """(loss, vectors, sample) of what `frozen` gave."""
    latents, noise = torch.randn(2, 2, 4, side, side, generator=torch.Generator().manual_seed(3))
    sample = NoisySample(
        latents, noise, whole.diffusion.model.model_sampling.sigmas[[300, 800]].clone(), prompt="a <A*>"
    )
    vectors = initial_token(micro.sound(), word_statistics(whole.clip), SMALL).vectors
    return DiffusionLoss(whole), {k: v.requires_grad_(True) for k, v in vectors.items()}, sample


def gradient(loss, vectors, sample):
    value = loss(vectors, sample)
    return float(value.detach()), torch.cat([g.flatten() for g in torch.autograd.grad(value, list(vectors.values()))])


@pytest.mark.parametrize("family", sorted(micro.FAMILIES))
def test_every_way_gives_the_same_gradient(family):
    models = micro.build(family)
    before = state_of(models)
    network, found = models[0].model.diffusion_model, []
    with frozen(*models[:2]) as whole, memory.StepMemory(whole, "plain", "A step") as ways:
        loss, vectors, sample = prepared_loss(whole)
        found.append(gradient(loss, vectors, sample))
        for _ in memory.WAYS[1:]:
            ways.less()
            assert all("forward" in vars(block) for block in memory.blocks(network))
            found += [gradient(loss, vectors, sample) for _ in range(2)]
        with pytest.raises(TrainingError, match="Out of memory: A step needs more"):
            ways.less()
    assert not any("forward" in vars(block) for block in memory.blocks(network, models[1].cond_stage_model))
    assert state_of(models) == before
    (value, plain), *others = found
    for again, saved in others:
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
    """What autograd keeps of one evaluation, beside the weights."""
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


@pytest.mark.parametrize(("family", "side"), [("sd15", 24), ("sdxl", 16)])
def test_each_way_keeps_less(family, side):
    models = micro.build(family, text=torch.float16)
    kept = []
    with frozen(*models[:2]) as whole, memory.StepMemory(whole, "plain", "A step") as ways:
        loss, vectors, sample = prepared_loss(whole, side)
        for way in memory.WAYS:
            assert ways.way == way
            weights = [t for m in (whole.diffusion.model, whole.encoder) for t in (*m.parameters(), *m.buffers())]
            kept.append(kept_bytes(loss, vectors, sample, {t.untyped_storage().data_ptr() for t in weights}))
            if way != memory.WAYS[-1]:
                ways.less()
    assert kept[0] > 2 * kept[1] > 2 * kept[2]


class TestShortMemory:
    def free(self, monkeypatch, size: float):
        monkeypatch.setattr(mm, "get_free_memory", lambda *_, **__: size)

    def ways_of(self, monkeypatch) -> list[str]:
        """The ways that trainings take from now on."""
        taken, run = [], training.AdapterTrainer._train_one_step

        def noted(trainer):
            taken.append(trainer._loss.models.releases_text + trainer._loss.models.is_thrifty)
            return run(trainer)

        monkeypatch.setattr(training.AdapterTrainer, "_train_one_step", noted)
        return taken

    @pytest.mark.cpu_only(reason="a GPU's host asks for the same figure before it loads a model")
    @pytest.mark.parametrize(("share", "way"), [(12, 0), (5, 1), (1, 2)])
    def test_the_first_way_is_chosen_by_what_is_free(self, models, monkeypatch, share, way):
        self.free(monkeypatch, share * models[0].memory_required([1, 4, 8, 8]))
        taken = self.ways_of(monkeypatch)
        train(models)
        assert taken == [way] * SMALL.steps

    @pytest.mark.parametrize(
        "error",
        [
            mm.OOM_EXCEPTION("CUDA out of memory"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            MemoryError(),
        ],
        ids=["device", "machine", "python"],
    )
    @pytest.mark.parametrize("times", [1, 2])
    def test_an_error_of_memory_goes_on_in_less(self, models, monkeypatch, error, times):
        expected = train(models)
        taken, calls, evaluate = self.ways_of(monkeypatch), [], DiffusionLoss.__call__

        def fails(self, vectors, sample):
            calls.append(1)
            if len(calls) in (5, 6)[:times]:
                raise error
            return evaluate(self, vectors, sample)

        monkeypatch.setattr(DiffusionLoss, "__call__", fails)
        done = train(models)
        assert taken[-1] == times
        assert done.losses == pytest.approx(expected.losses, rel=1e-3)
        difference = done.token.vectors["clip_l"] - expected.token.vectors["clip_l"]
        assert float(difference.norm() / expected.token.vectors["clip_l"].norm()) < 1e-3

    def test_text_encoders_that_do_not_fit_twice(self, models, monkeypatch):
        """Their weights are then read in the type that they have, at every use, in place of once in float32."""
        expected, before = train(models), state_of(models)
        taken, calls, alias = self.ways_of(monkeypatch), [], autograd._alias

        def fails(tensor, dtype):
            calls.extend([dtype] * (dtype is not None))
            if len(calls) == 20:
                calls.clear()
                raise mm.OOM_EXCEPTION("CUDA out of memory")
            return alias(tensor, dtype)

        monkeypatch.setattr(autograd, "_alias", fails)
        done = train(models, learning_rate=0.0201)
        assert state_of(models) == before and taken == [1] * SMALL.steps and calls == []
        assert done.losses == pytest.approx(expected.losses, rel=1e-3)

    def test_an_error_of_memory_that_stays_is_a_sentence(self, models, monkeypatch):
        before = state_of(models)
        calls, evaluate = [], DiffusionLoss.__call__

        def fails(self, vectors, sample):
            calls.append(1)
            if len(calls) > 3:
                raise mm.OOM_EXCEPTION("CUDA out of memory")
            return evaluate(self, vectors, sample)

        monkeypatch.setattr(DiffusionLoss, "__call__", fails)
        with pytest.raises(
            TrainingError, match=r"Out of memory.*needs more.*GB that are free.*lower `batch_size`.*is its best token"
        ):
            train(models)
        assert state_of(models) == before

    def test_a_model_that_does_not_fit_at_all(self, models, monkeypatch):
        def full(*_, **__):
            raise mm.OOM_EXCEPTION("CUDA out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(training.mm, "load_models_gpu", full)
            patch.setattr(models[2], "encode", lambda pixels: torch.zeros(1, 4, 8, 8))
            with pytest.raises(TrainingError, match=r"need 0\.\d GB, more than the available memory"):
                train(models)

    def test_other_errors_stay_what_they_are(self, models, monkeypatch):
        monkeypatch.setattr(DiffusionLoss, "__call__", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ")))
        with pytest.raises(RuntimeError, match="shapes differ"):
            train(models)

    def test_a_patch_that_overwrites_what_backward_needs(self, models):
        """As some packs do with the skip connections: the first step fails and is done once more under a guard."""
        model = models[0].clone()

        def overwrite(h, skip, _options):
            skipped = torch.nn.functional.silu(skip)
            skip.mul_(0.9)  # silu needs it as it was
            return h + 0.1 * skipped.mean(), skip

        model.set_model_output_block_patch(overwrite)
        before = state_of(models)
        assert all(torch.isfinite(torch.tensor(train((model, *models[1:])).losses)))
        assert state_of(models) == before


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
            with frozen(model, clip) as prepared:
                found.append(gradient(*prepared_loss(prepared))[1])
        assert float((found[0] - found[1]).norm() / found[1].norm()) < 1e-3

    def test_scaling_keeps_the_gradients_of_half_precision(self):
        """Against the gradient of the same weights in fp32: with the scale nearer, and never lost."""
        errors = {}
        for scale in (1.0, training.FP16_LOSS_SCALE):
            half = micro.build(weights=torch.float16)
            whole = micro.build(weights=torch.float16, compute=torch.float32)
            found = []
            for models in (whole, half):
                with frozen(*models[:2]) as prepared:
                    loss, vectors, sample = prepared_loss(prepared, 32)
                    (slope,) = torch.autograd.grad(loss(vectors, sample) * scale, list(vectors.values()))
                    found.append(slope / scale)
            errors[scale] = float((found[1] - found[0]).norm() / found[0].norm())
        assert errors[training.FP16_LOSS_SCALE] < 0.1
        assert errors[training.FP16_LOSS_SCALE] < errors[1.0]

    def test_half_precision_is_scaled_and_the_rest_is_not(self):
        scales = {
            (w, c): training._loss_scale(SimpleNamespace(diffusion=micro.build(weights=w, compute=c)[0]))
            for w, c in ((torch.float32, None), (torch.float16, None), (torch.float16, torch.float32))
        }
        assert list(scales.values()) == [1.0, training.FP16_LOSS_SCALE, 1.0]
