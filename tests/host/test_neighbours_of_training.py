"""What else artists connect: LoRAs, merges, hooks, CLIP skip; two prompts in turn; many references; odd sizes."""

from __future__ import annotations

from dataclasses import replace

import comfy.hooks
import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import references, training
from aai_pack.nodes.host.base.digest import patched_digest
from aai_pack.tests.host import micro

pytestmark = pytest.mark.usefixtures("forgetful")
SMALL = AdaptConfig(steps=3, learning_rate=0.02, resolution=64, evaluate_every=3, held_out=2)
UNET_KEY = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
CLIP_KEY = "clip_l.transformer.text_model.encoder.layers.1.mlp.fc1.weight"


@pytest.fixture(scope="module")
def models():
    return micro.build()


def train(models, groups=None, vae=None, **changes):
    config = replace(SMALL, **changes)
    model, clip, own = models
    with torch.inference_mode():
        return training.train(model, clip, vae or own, micro.sound()[None], groups or [micro.pictures()], config)


def ordinary(models):
    """What a stock workflow gives: a prompt's conditioning and the UNet's answer."""
    model, clip, _ = models
    with torch.inference_mode():
        cond = clip.encode_from_tokens_scheduled(clip.tokenize("a dog in the snow"))[0][0]
        mm.load_models_gpu([model])
        x, level, known = (t.to(model.load_device) for t in (torch.ones(1, 4, 8, 8), torch.tensor([1.0]), cond))
        return cond, model.model.apply_model(x, level, c_crossattn=known)


def delta(models, key: str, part: int, seed: int = 7):
    weight = (models[0].model, models[1].cond_stage_model)[part].get_parameter(key)
    return torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def with_lora(models, strength: float = 1.0, seed: int = 7):
    model, clip = models[0].clone(), models[1].clone()
    model.add_patches({UNET_KEY: ("diff", (delta(models, UNET_KEY, 0, seed),))}, strength)
    clip.add_patches({CLIP_KEY: ("diff", (delta(models, CLIP_KEY, 1, seed),))}, strength)
    return model, clip, models[2]


def merged(models):
    model, other = models[0].clone(), micro.build(seed=5)[0]
    for name, patches in other.get_key_patches("diffusion_model.").items():
        model.add_patches({name: patches}, 0.4, 0.6)
    return model, *models[1:]


def hooked(models):
    clip = models[1].clone()
    hook = comfy.hooks.create_hook_lora({CLIP_KEY: 1}, 1.0, 1.0)
    clip.patcher.forced_hooks = hook.clone()
    clip.patcher.forced_hooks.set_keyframes_on_hooks(None)
    for each in clip.patcher.forced_hooks.hooks:
        clip.patcher.add_hook_patches(each, {CLIP_KEY: ("diff", (delta(models, CLIP_KEY, 1),))}, 1.0)
    return models[0], clip, models[2]


def skipped(models):
    clip = models[1].clone()
    clip.clip_layer(-2)
    return models[0], clip, models[2]


@pytest.mark.parametrize("connect", [with_lora, merged, hooked, skipped], ids=lambda f: f.__name__)
def test_what_is_connected_is_trained_with_and_leaves_the_rest_alone(models, connect):
    before, plain = ordinary(models), train(models)
    done = train(connect(models))
    assert done.losses != plain.losses, "the word is learned in the model that is connected"
    assert train(models).losses == plain.losses
    after = ordinary(models)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("connect", [with_lora, merged, hooked], ids=lambda f: f.__name__)
def test_the_name_of_a_run_knows_what_is_connected_loaded_or_not(models, connect):
    changed = connect(models)
    names = lambda m: (patched_digest(m[0]), patched_digest(m[1].patcher))  # noqa: E731
    plain, other = names(models), names(changed)
    assert other != plain
    with torch.inference_mode():
        mm.load_models_gpu([changed[0], changed[1].patcher], force_full_load=True)
    assert names(changed) == other and names(models) == plain
    with torch.inference_mode():
        mm.load_models_gpu([models[0], models[1].patcher], force_full_load=True)
    assert names(changed) == other and names(models) == plain


def test_strength_and_content_of_a_lora_count(models):
    names = [patched_digest(with_lora(models, *values)[0]) for values in ((1.0, 7), (0.5, 7), (1.0, 8), (1.0, 7))]
    assert len(set(names)) == 3 and names[0] == names[3]


def test_two_trainings_in_turn_do_not_meet(models):
    """Two prompts of one host share its models: each gives what it gives alone."""
    alone = [train(models, seed=seed, **changes) for seed, changes in ((1, {}), (2, {"vectors": 2}))]
    other = with_lora(models)
    mixed = [train(models, seed=1), train(other, seed=1), train(models, seed=2, vectors=2)]
    assert mixed[0].losses == alone[0].losses and mixed[2].losses == alone[1].losses


class TestReferences:
    @pytest.mark.parametrize("count", [1, 50])
    def test_one_and_fifty(self, models, count):
        pictures = [torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(n)) for n in range(count)]
        done = train(models, groups=[pictures], steps=2, evaluate_every=2)
        assert bool(done.token.vectors["clip_l"].isfinite().all())
        assert done.sheet.shape[1] <= 16000 and done.sheet.shape[2] <= 16000

    @pytest.mark.parametrize("size", [(8, 8), (8, 2000), (8000, 8000)], ids=str)
    def test_sizes(self, models, size):
        with torch.inference_mode():
            latents = references.encode_references(
                models[0], models[2], [torch.rand(1, 1, 1, 3).expand(1, *size, 3)], 64
            )
        assert latents.shape == (1, 4, 8, 8) and bool(latents.isfinite().all())

    def test_a_vae_of_another_family(self, models):
        class Sixteen:
            first_stage_model = models[2].first_stage_model

            def encode(self, pixels):
                return torch.zeros(1, 16, 8, 8)

        with pytest.raises(TrainingError, match=r"latents of shape \(16, 8, 8\).*needs 4 channels.*same checkpoint"):
            train(models, vae=Sixteen())

    def test_a_vae_without_numbers(self, models):
        """As SDXL's in half precision; the picture is named, also among mirrored ones."""

        class Overflowing:
            first_stage_model, count = models[2].first_stage_model, 0

            def encode(self, pixels):
                self.count += 1
                return torch.full((1, 4, 8, 8), torch.nan if self.count == 5 else 0.0)

        with pytest.raises(TrainingError, match=r"NaN or infinity from reference picture 2\. .*--bf16-vae"):
            train(models, vae=Overflowing(), flip=True)

    def test_no_vae(self, models):
        with pytest.raises(TrainingError, match="no VAE"), torch.inference_mode():
            training.train(*models[:2], None, micro.sound()[None], [micro.pictures()], SMALL)


class TestExtremeSettings:
    @pytest.mark.parametrize("rate", [1e-6, 1e3])
    def test_learning_rates(self, models, rate):
        done = train(models, learning_rate=rate, steps=4)
        assert bool(done.token.vectors["clip_l"].isfinite().all())
        if rate > 1:
            assert done.report.chosen == 0, "a diverged token is never returned"
            assert "lower the learning rate" in done.report.text()

    @pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.0), ("steps", 0), ("learning_rate", float("inf"))])
    def test_refused(self, models, name, value):
        with pytest.raises(TrainingError):
            train(models, **{name: value})

    def test_a_feature_of_another_width_is_lifted_or_refused_by_the_bridge(self, models):
        sound = torch.nn.functional.normalize(torch.randn(1, 512), dim=-1)
        with torch.inference_mode():
            done = training.train(*models, sound, [micro.pictures()], SMALL)
            assert done.token.vectors["clip_l"].shape == (1, 768)
            with pytest.raises(Exception, match="feature has 512 values"):
                training.train(*models, sound, [micro.pictures()], replace(SMALL, bridge="ridge"))


@pytest.mark.parametrize(("runs", "limit"), [(5, 12), pytest.param(20, 30, marks=pytest.mark.slow)])
def test_memory_is_flat(models, runs, limit):
    """Megabytes that further trainings in one process add, after two that warm it up."""
    import gc

    psutil = pytest.importorskip("psutil")
    train(models), train(models)
    gc.collect()
    process = psutil.Process()
    before, tensors = process.memory_info().rss, count_tensors()
    for seed in range(runs):
        train(models, seed=seed)
    gc.collect()
    assert count_tensors() <= tensors + 5
    assert (process.memory_info().rss - before) / 2**20 < limit


def count_tensors() -> int:
    import gc

    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
