"""Settings, starts, norms and draws of Adapt, apart from any model."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from aai_pack.aai_models.adapt.checkpoint import identity, run_inputs, tensors_hash
from aai_pack.aai_models.adapt.config import PRESETS, AdaptConfig, from_preset
from aai_pack.aai_models.adapt.norms import Sphere, Stepper
from aai_pack.aai_models.adapt.objective import Draw, NoisySample, References, diffusion_loss, draw_steps
from aai_pack.aai_models.adapt.prompts import OBJECT_FRAMES, STYLE_FRAMES, training_prompts
from aai_pack.aai_models.adapt.report import other_sound
from aai_pack.aai_models.adapt.start import WordStatistics, initial_token
from aai_pack.aai_models.adapt.trainer import AdapterTrainer
from aai_pack.aai_models.errors import TrainingError

WORDS = {"clip_l": WordStatistics(0.4, 0.014, 768, 0.38), "clip_g": WordStatistics(0.5, 0.016, 1280, 0.6)}


def feature(seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(768, generator=torch.Generator().manual_seed(seed)), dim=-1)


def start(**changes):
    rows = {key: torch.randn(2, word.width) for key, word in WORDS.items()} if changes.get("start") == "words" else {}
    return initial_token(feature(), WORDS, AdaptConfig(words="x", **changes), rows=rows)


class TestSettings:
    @pytest.mark.parametrize("name", ["mode", "scale", "start", "norm_control", "timesteps", "prompts", "bridge"])
    def test_unknown_policies(self, name):
        with pytest.raises(TrainingError, match=f"{name} is 'nonsense'"):
            AdaptConfig(**{name: "nonsense"}).validate()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("steps", 0), ("vectors", 0), ("vectors", 9), ("accumulation", 0)),
            *(("learning_rate", 0.0), ("learning_rate", math.nan), ("prompt", "a dog")),
        ],
    )
    def test_values_out_of_range(self, name, value):
        with pytest.raises(TrainingError):
            AdaptConfig(**{name: value}).validate()

    def test_presets(self):
        for name, preset in PRESETS.items():
            preset.validate()
            own = from_preset(name, seed=7, prompt="<A*>", resolution=64)
            assert own == dataclasses.replace(preset, seed=7, prompt="<A*>", resolution=64)
        paper = PRESETS["paper"]
        assert (paper.mode, paper.scale, paper.norm_control) == ("sound_and_adapter", "unit", "free")
        assert (paper.timesteps, paper.prompts, paper.bridge) == ("uniform", "own", "none")
        assert PRESETS["quality"].bridge == "auto"
        with pytest.raises(TrainingError, match="preset is 'best'"):
            from_preset("best")


class TestPrompts:
    @pytest.mark.parametrize("prompts", ["object", "style"])
    def test_each_sentence_has_the_word_once(self, prompts):
        sentences = training_prompts(AdaptConfig(prompts=prompts))
        assert all(sentence.count("<A*>") == 1 and "{" not in sentence for sentence in sentences)
        assert len(set(sentences)) == len(sentences)

    def test_the_lists_have_the_known_sizes(self):
        assert (len(OBJECT_FRAMES), len(STYLE_FRAMES)) == (27, 19)


class TestStarts:
    def test_scales(self):
        assert start(scale="clip_norm").scales == {"clip_l": 0.4, "clip_g": 0.5}
        assert start(scale="unit").scales == {"clip_l": 1.0, "clip_g": 1.0}
        raw = initial_token(feature(), WORDS, AdaptConfig(scale="raw"), norm=7.5)
        assert raw.scales == {"clip_l": 7.5, "clip_g": 7.5}
        assert float((raw.vectors["clip_l"] - raw.adapters["clip_l"]).norm()) == pytest.approx(7.5, rel=1e-5)
        with pytest.raises(TrainingError, match="features normalised to length 1"):
            start(scale="raw")

    def test_the_sound_has_the_size_of_its_scale(self):
        token = start(scale="clip_norm", start="zero")
        assert {key: float(rows.norm()) for key, rows in token.vectors.items()} == pytest.approx(
            {"clip_l": 0.4, "clip_g": 0.5}, rel=1e-5
        )
        assert token.sound_share() == pytest.approx({"clip_l": 1.0, "clip_g": 1.0}, rel=1e-5)

    def test_random_starts_are_seeded_and_of_the_vocabularys_spread(self):
        one, two, other = start(vectors=8), start(vectors=8), start(vectors=8, seed=1)
        assert torch.equal(one.adapters["clip_g"], two.adapters["clip_g"])
        assert not torch.equal(one.adapters["clip_g"], other.adapters["clip_g"])
        assert float(one.adapters["clip_g"].std()) == pytest.approx(0.016, rel=0.05)

    def test_words(self):
        rows = {key: torch.randn(2, word.width) for key, word in WORDS.items()}
        token = initial_token(feature(), WORDS, AdaptConfig(start="words", words="x", vectors=3), rows=rows)
        assert torch.equal(token.adapters["clip_l"], rows["clip_l"][[0, 1, 0]])
        with pytest.raises(TrainingError, match="no vectors for the text encoder clip_g"):
            initial_token(feature(), WORDS, AdaptConfig(start="words", words="x"))

    def test_modes(self):
        assert start(mode="adapter_only").sound_share() == {"clip_l": 0.0, "clip_g": 0.0}
        assert not start(mode="sound_only").adapters["clip_l"].any()

    def test_bridged_directions_replace_the_lift(self):
        direction = feature(5)
        token = initial_token(feature(), WORDS, AdaptConfig(start="zero"), {"clip_l": direction})
        assert torch.equal(token.vectors["clip_l"][0], 0.4 * direction)

    def test_the_other_sound_is_at_a_right_angle(self):
        token = start(start="zero")
        cosine = torch.nn.functional.cosine_similarity(token.vectors["clip_g"], other_sound(token).vectors["clip_g"])
        assert float(cosine.abs().max()) < 1e-5


class TestNorms:
    @pytest.mark.parametrize("control", ["renorm", "dti"])
    def test_the_word_keeps_its_norm(self, control):
        token = start(vectors=3)
        adapters = {"clip_l": token.adapters["clip_l"].clone().requires_grad_(True)}
        sound = token.sound("clip_l")
        stepper = Stepper(adapters, {"clip_l": Sphere.around(token.adapters["clip_l"], sound, 0.38)}, control, 0.05)
        for _ in range(5):
            stepper.clear()
            (adapters["clip_l"] + sound).sum().backward()
            stepper.step()
            assert (adapters["clip_l"] + sound).norm(dim=-1).tolist() == pytest.approx([0.38] * 3, rel=1e-5)

    def test_dti_turns_by_its_angle_downhill(self):
        adapter, sound = torch.tensor([[0.0, 2.0]]), torch.zeros(2)
        turned = Sphere.around(adapter, sound, 2.0).turn(adapter, torch.tensor([[1.0, 5.0]]), math.tan(0.1))
        assert torch.allclose(turned, 2 * torch.tensor([[-math.sin(0.1), math.cos(0.1)]]), atol=1e-6)

    def test_free_is_adamw_without_decay(self):
        adapters = {"a": torch.ones(1, 3).requires_grad_(True)}
        reference = torch.ones(1, 3).requires_grad_(True)
        adam = torch.optim.AdamW([reference], lr=0.1, weight_decay=0.0)
        stepper = Stepper(adapters, {}, "free", 0.1)
        for _ in range(3):
            stepper.clear()
            adam.zero_grad()
            adapters["a"].square().sum().backward()
            reference.square().sum().backward()
            stepper.step()
            adam.step()
        assert torch.equal(adapters["a"], reference)


class TestDraws:
    @pytest.mark.parametrize("policy", ["uniform", "stratified", "composition", "middle"])
    def test_timesteps_stay_in_the_schedule(self, policy):
        steps = draw_steps(policy, 5000, 1000, torch.Generator().manual_seed(0))
        assert steps.min() >= 0 and steps.max() <= 999
        # Moments of the density that the policy names.
        mean = {"uniform": 0.5, "stratified": 0.5, "composition": 0.75, "middle": 0.5}[policy]
        spread = {"uniform": 0.2887, "stratified": 0.2887, "composition": 0.1936, "middle": 0.2083}[policy]
        assert float(steps.float().mean()) / 1000 == pytest.approx(mean, abs=0.01)
        assert float(steps.float().std()) / 1000 == pytest.approx(spread, abs=0.01)

    def test_stratified_covers_the_schedule(self):
        steps = draw_steps("stratified", 4, 1000, torch.Generator().manual_seed(3))
        assert [int(step) // 250 for step in steps] == [0, 1, 2, 3]

    def test_a_batch_holds_pictures_of_one_sound(self):
        latents = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 4, 2, 2)
        draw = Draw(References(latents, sounds=(0, 0, 1, 1, 1)), torch.linspace(0.1, 1, 10), ("a <A*>", "b <A*>"))
        generator = torch.Generator().manual_seed(0)
        seen = set()
        for _ in range(40):
            sample = draw.sample(4, generator)
            owners = {0 if float(z[0, 0, 0]) < 2 else 1 for z in sample.latents}
            assert owners == {sample.sound}
            seen.add((sample.sound, sample.prompt))
        assert len(seen) == 4
        assert {sample.sound for sample in draw.held_out(4, generator)} == {0, 1}

    def test_a_mask_weighs_the_loss(self):
        latents, noise = torch.randn(2, 1, 4, 6, 6)
        noisy, denoised = torch.randn(2, 1, 4, 6, 6)
        mask = torch.zeros(1, 1, 6, 6)
        mask[..., :3] = 1
        sigmas = torch.tensor([2.0])
        masked = diffusion_loss(noisy, denoised, NoisySample(latents, noise, sigmas, mask))
        half = diffusion_loss(noisy[..., :3], denoised[..., :3], NoisySample(latents[..., :3], noise[..., :3], sigmas))
        assert float(masked) == pytest.approx(float(half), rel=1e-5)
        whole = NoisySample(latents, noise, sigmas, torch.ones(1, 1, 6, 6))
        plain = diffusion_loss(noisy, denoised, NoisySample(latents, noise, sigmas))
        assert float(diffusion_loss(noisy, denoised, whole)) == pytest.approx(float(plain), rel=1e-5)


def quadratic(target: torch.Tensor, fails_after: float = math.inf):
    """A loss whose minimum is at `target`; not a number after that many evaluations with gradients."""
    calls = []

    def loss(vectors, sample):
        if torch.is_grad_enabled():
            calls.append(1)
        value = (vectors["clip_l"] - target).square().sum()
        return value * math.nan if len(calls) > fails_after else value

    return loss


def trainer(loss, others=(), sounds=(), loss_scale=1.0, **changes) -> AdapterTrainer:
    config = AdaptConfig(**{"steps": 60, "learning_rate": 0.02, "evaluate_every": 5, **changes})
    words = {"clip_l": WORDS["clip_l"]}
    tokens = [initial_token(feature(seed), words, config) for seed in (0, *others)]
    references = References(torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1)), sounds=sounds)
    draw = Draw(references, torch.linspace(0.1, 10, 100), training_prompts(config))
    return AdapterTrainer(tokens[0], draw, loss, config, others=tuple(tokens[1:]), loss_scale=loss_scale)


def inputs_of(run: AdapterTrainer) -> dict[str, str]:
    references = run.draw.references
    pictures = tensors_hash([references.latents], str(references.sounds))
    return run_inputs(run.config, run.starts, pictures, run.draw.sigmas)


class TestTrainer:
    def test_the_sound_keeps_its_place_and_the_adapter_learns_the_rest(self):
        run = trainer(quadratic(feature(9)), steps=400)
        token = run.run(lambda _: None)
        assert float((token.vectors["clip_l"] - feature(9)).norm()) < 0.1
        assert torch.equal(token.audio_feature, feature())

    def test_a_loss_that_is_not_a_number_keeps_the_best(self):
        run = trainer(quadratic(feature(9), fails_after=32))
        token = run.run(lambda _: None)
        assert run.step == 32 and run.best_step == 30 and "nan" in run.stopped
        assert bool(token.vectors["clip_l"].isfinite().all())

    def test_without_any_number_it_explains(self):
        with pytest.raises(TrainingError, match="must not be NaN"):
            trainer(lambda vectors, sample: vectors["clip_l"].sum() * math.nan).run(lambda _: None)

    def test_a_run_that_diverges_gives_back_its_start(self):
        run = trainer(quadratic(feature(9)), learning_rate=1e3)
        before = run.current().vectors["clip_l"]
        token = run.run(lambda _: None)
        assert run.best_step == 0 and torch.equal(token.vectors["clip_l"], before)
        assert float((run.current().vectors["clip_l"] - before).norm()) > 100

    def test_a_word_that_has_grown_out_of_all_size_is_not_kept(self):
        """Even where its loss is lower."""
        run = trainer(lambda vectors, sample: -vectors["clip_l"].square().sum(), learning_rate=1e3)
        run.run(lambda _: None)
        assert run.best_step == 0 and "lower the learning rate" in run.stopped and run.step == 5

    def test_patience(self):
        run = trainer(quadratic(feature(9)), learning_rate=0.5, steps=1000, patience=3)
        run.run(lambda _: None)
        assert run.step < 1000 and "no better word" in run.stopped

    def test_a_sound_alone_is_not_trained(self):
        run = trainer(quadratic(feature(9)), mode="sound_only", norm_control="renorm")
        token = run.run(lambda _: None)
        assert run.step == 0 and not token.adapters["clip_l"].any() and len(run.held_out_losses) == 1

    def test_accumulation_is_a_larger_batch(self):
        """With a loss that the draw does not touch, two halves make the same step as one whole."""
        one, two = trainer(quadratic(feature(9))), trainer(quadratic(feature(9)), accumulation=2)
        first, second = one.run(lambda _: None), two.run(lambda _: None)
        assert torch.allclose(first.vectors["clip_l"], second.vectors["clip_l"], atol=1e-6)

    def test_several_sounds_share_an_adapter(self):
        """Sound k asks for target + s f_k: only the shared part can be learned, and it is."""
        target = 0.1 * torch.ones(768)

        def loss(vectors, sample):
            return (vectors["clip_l"] - target - 0.4 * feature(sample.sound)).square().sum()

        run = trainer(loss, others=(1,), sounds=(0, 1), steps=300, learning_rate=0.01)
        token = run.run(lambda _: None)
        assert torch.allclose(token.adapters["clip_l"][0], target, atol=0.02)
        moved = token.with_audio(feature(1))
        assert float(loss(moved.vectors, NoisySample(None, None, None, sound=1))) < 0.05

    def test_identity_knows_what_decides(self):
        same = identity(inputs_of(trainer(quadratic(feature(9)))))
        assert same == identity(inputs_of(trainer(quadratic(feature(9)))))
        for changes in ({"seed": 1}, {"steps": 61}, {"norm_control": "renorm"}, {"sounds": (0, 1), "others": (1,)}):
            assert identity(inputs_of(trainer(quadratic(feature(9)), **changes))) != same


class TestLossScale:
    def test_it_changes_nothing_where_numbers_have_room(self):
        plain, scaled = trainer(quadratic(feature(9))), trainer(quadratic(feature(9)), loss_scale=4096.0)
        assert torch.equal(plain.run(lambda _: None).vectors["clip_l"], scaled.run(lambda _: None).vectors["clip_l"])

    def test_gradients_that_overflow_lower_it_and_cost_no_step(self):
        class Narrow(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, slope):  # as numbers of fp16 do
                return torch.where(slope.abs() > 500.0, torch.inf, slope)

        def loss(vectors, sample):
            return (Narrow.apply(vectors["clip_l"]) - feature(9)).square().sum()

        expected = trainer(quadratic(feature(9))).run(lambda _: None)
        run = trainer(loss, loss_scale=65536.0)
        token = run.run(lambda _: None)
        assert run.step == 60 and run.loss_scale < 65536.0
        assert torch.allclose(token.vectors["clip_l"], expected.vectors["clip_l"], atol=1e-6)

    def test_gradients_that_always_overflow_end_the_run(self):
        class Infinite(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, slope):
                return slope * torch.inf

        def loss(vectors, sample):
            return Infinite.apply(vectors["clip_l"]).square().sum()

        run = trainer(loss, loss_scale=4.0)
        run.run(lambda _: None)
        assert "nan" in run.stopped and run.step == 0
