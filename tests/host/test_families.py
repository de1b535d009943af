"""SD1.x, SD2.x and SDXL, and every way in which a model may state what it predicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.objective import NoisySample
from aai_pack.aai_models.adapt.start import initial_token
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import TokenError, TrainingError
from aai_pack.nodes.host.adapt import bridge, training
from aai_pack.nodes.host.adapt.frozen import frozen
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.base import prompt_words
from aai_pack.nodes.host.base.vocabulary import vocabulary_rows, word_statistics
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_training import state_of
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, ModelSamplingSD3

SMALL = AdaptConfig(steps=5, learning_rate=0.02, resolution=64, evaluate_every=5, held_out=2)
PREDICTIONS = ("eps", "v", "v_zero_snr", "flow")


pytestmark = pytest.mark.usefixtures("forgetful")


@pytest.fixture(scope="module", params=sorted(micro.FAMILIES))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def models(family):
    return micro.build(family)


def predicting(model, prediction: str):
    """A clone of `model` that is read as predicting noise, velocity, or a flow, as the stock nodes make it."""
    if prediction == "flow":
        return ModelSamplingSD3().patch(model, 3.0)[0]
    if prediction.startswith("v"):
        return ModelSamplingDiscrete().patch(model, "v_prediction", prediction == "v_zero_snr")[0]
    return model


def train(models, **changes):
    config = replace(SMALL, **changes)
    with torch.inference_mode():
        return training.train(*models, micro.sound()[None], [micro.pictures()], config)


@equal_trainings
def test_training_moves_the_adapter_of_each_text_encoder_and_nothing_else(models, family):
    before = state_of(models)
    start, done = train(models, mode="sound_only"), train(models)
    assert state_of(models) == before
    widths = {key: rows.shape[-1] for key, rows in done.token.vectors.items()}
    assert widths == micro.WIDTHS[family]
    again = train(models)
    for key in widths:
        assert float((done.token.adapters[key] - start.token.adapters[key]).norm()) > 0.01
        assert torch.equal(again.token.vectors[key], done.token.vectors[key])
        assert torch.equal(done.token.sound(key), start.token.sound(key)), "the sound is frozen"


def test_the_sound_keeps_its_geometry_in_wider_text_encoders(models, family):
    """The lift is orthonormal: norms are the scale's, angles between sounds are those of the features."""
    words = word_statistics(models[1])
    one, two = (initial_token(micro.sound(seed), words, replace(SMALL, start="zero")) for seed in (0, 1))
    for key in micro.WIDTHS[family]:
        median = float(vocabulary_rows(models[1], key).norm(dim=-1).median())
        assert float(one.sound(key).norm()) == pytest.approx(median, rel=1e-5)
        cosine = float(F.cosine_similarity(one.sound(key), two.sound(key), dim=-1))
        assert cosine == pytest.approx(float(micro.sound(0) @ micro.sound(1)), abs=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_gradients_agree_with_finite_differences(models, prediction):
    model, clip = predicting(models[0], prediction), models[1]
    with frozen(model, clip) as whole:
        loss = DiffusionLoss(whole)
        generator = torch.Generator().manual_seed(3)
        latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
        sigmas = whole.diffusion.model.model_sampling.sigmas[[200, 700]].detach().clone().float()
        sample = NoisySample(latents, noise, sigmas, prompt="a photo of <A*>")
        vectors = initial_token(micro.sound(), word_statistics(clip), SMALL).vectors
        vectors = {key: rows.requires_grad_(True) for key, rows in vectors.items()}
        found = torch.autograd.grad(loss(vectors, sample), list(vectors.values()))
        for key, gradient in zip(vectors, found, strict=True):
            slope = _slope(loss, vectors, sample, key, gradient / gradient.norm())
            assert slope == pytest.approx(float(gradient.norm()), rel=1e-2), key


@torch.no_grad()
def _slope(loss, vectors, sample, key: str, direction, step: float = 1e-2) -> float:
    """Directional derivative of the loss, by central differences."""
    up, down = (loss({**vectors, key: vectors[key] + way * step * direction}, sample).double() for way in (1, -1))
    return float((up - down) / (2 * step))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_is_what_the_model_predicts(models, prediction):
    """A model that knew x_0 would have no loss; one that answers with noise has the loss of that answer."""
    model, clip = predicting(models[0], prediction), models[1]
    with frozen(model, clip) as whole, torch.no_grad():
        loss = DiffusionLoss(whole)
        latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        sigmas = whole.diffusion.model.model_sampling.sigmas[[600]].detach().clone().float()
        sample = NoisySample(latents, noise, sigmas, prompt="a <A*>")
        known = latents.to(whole.device)
        loss.denoise = lambda vectors, prompt, noisy, sigmas: known
        assert float(loss({}, sample)) == pytest.approx(0.0, abs=1e-6)
        loss.denoise = lambda vectors, prompt, noisy, sigmas: known + sigmas
        assert float(loss({}, sample)) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_other_predictions_train(models, prediction):
    with torch.inference_mode():
        model = predicting(models[0], prediction)
    done = train((model, *models[1:]))
    assert all(torch.isfinite(torch.tensor(done.losses)))


def test_the_order_of_a_batch_does_not_matter(models):
    model, clip, _ = models
    with frozen(model, clip) as whole:
        loss = DiffusionLoss(whole)
        latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(4))
        sigmas = model.model.model_sampling.sigmas[[100, 500, 900]].detach().clone()
        vectors = initial_token(micro.sound(), word_statistics(clip), SMALL).vectors
        with torch.no_grad():
            losses = [
                float(loss(vectors, NoisySample(latents[order], noise[order], sigmas[order], prompt="a <A*>")))
                for order in ([0, 1, 2], [2, 0, 1])
            ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_clip_of_another_family(models, family):
    other = micro.build("sd2" if family != "sd2" else "sd15")
    with pytest.raises(TrainingError, match="values for each token"):
        train((models[0], other[1], models[2]))


def test_the_file_serves_a_stock_prompt(models, family, tmp_path):
    """`embedding:name` of the saved file gives the conditioning of the word itself."""
    token = train(models, steps=2).token
    token.save(tmp_path / "word.safetensors")
    clip = models[1].clone()
    before = {name: t.embedding_directory for name, t in prompt_words.sub_tokenizers(clip).items()}
    try:
        for tokenizer in prompt_words.sub_tokenizers(clip).values():
            tokenizer.embedding_directory = [str(tmp_path)]
        with torch.inference_mode():
            stock = clip.encode_from_tokens_scheduled(clip.tokenize("a photo of embedding:word"))
            ours = prompt_words.encode(
                models[1], "a photo of <A*>", {1: AudioToken.load(tmp_path / "word.safetensors")}
            )
    finally:
        for name, tokenizer in prompt_words.sub_tokenizers(clip).items():
            tokenizer.embedding_directory = before[name]
    assert torch.equal(stock[0][0], ours[0][0])


@pytest.fixture(scope="module")
def refiner():
    return micro.build("refiner")


class TestRefiner:
    """SDXL's refiner has a text encoder of the base model, and takes its words; it cannot teach any."""

    def test_it_is_not_trained(self, refiner):
        for clip in (refiner[1], micro.build("sdxl")[1]):
            with pytest.raises(TrainingError, match=r"SDXL's refiner\. .*Train on the base model"):
                train((refiner[0], clip, refiner[2]))

    def test_its_clip_trains_no_other_model_and_carries_no_sound(self, refiner):
        base = micro.build("sdxl")
        with pytest.raises(TokenError, match=r"has no clip_l.*CLIP of the base model"):
            train((base[0], refiner[1], base[2]))
        with torch.inference_mode(), pytest.raises(TokenError, match=r"has no clip_l.*CLIP of the base model"):
            bridge.word_from_sound(refiner[1], micro.sound(), 1.0, 200, aligned_with="clip_l")

    def test_a_word_of_the_base_model_works_in_it(self, refiner):
        token = initial_token(micro.sound(), word_statistics(micro.build("sdxl")[1]), SMALL)
        with torch.inference_mode():
            ((told, extra),) = prompt_words.encode(refiner[1], "a photo of <A*>", {1: token})
            plain = prompt_words.encode(refiner[1], "a photo of dog", {})[0][0]
        assert told.shape == plain.shape == (1, 77, 1280) and not torch.equal(told, plain)
        assert extra["aai_tokens"].columns == {1: (4,)}


class TestOtherFamilies:
    def test_a_text_encoder_of_another_kind(self, models):
        """T5, alone or beside CLIP-L as in Flux, is named."""
        import comfy.text_encoders.flux

        clip = models[1].clone()
        clip.tokenizer = comfy.text_encoders.flux.FluxTokenizer(embedding_directory=[])
        with pytest.raises(TokenError, match=r"uses clip_l, t5xxl\. .*T5, Qwen and Gemma are not supported yet"):
            train((models[0], clip, models[2]))

    def test_a_network_that_is_no_unet(self, models):
        model = models[0].clone()
        network, model.model.diffusion_model = model.model.diffusion_model, torch.nn.Linear(1, 1)
        try:
            with pytest.raises(TrainingError, match=r"The model is a Linear\. .*SD1\.x, SD2\.x and SDXL"):
                train((model, *models[1:]))
        finally:
            model.model.diffusion_model = network
