"""The bridge between the trainer and the host's frozen models (Eq. 6 inside ComfyUI)."""

from __future__ import annotations

import contextlib
import logging

import comfy.model_management as mm
import comfy.model_sampling
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ...aai_models.adapt.objective import NoisySample, diffusion_loss
from ...aai_models.adapt.token import AudioToken
from ...aai_models.adapt.trainer import AdaptConfig, AdapterTrainer, WordStatistics, initial_token
from ...aai_models.errors import TokenError, TrainingError
from ...aai_models.inject.words import replace_words
from . import folders
from .autograd import frozen_aliases, gradients, pytorch_attention
from .messages import tell
from .text import require_family, spell, sub_tokenizers, with_words

log = logging.getLogger(__name__)
# Activations of a step with gradients over those of one sampling step; the host's own estimate covers the latter.
GRADIENT_MEMORY = 4


def train(model, clip, vae, audio_feature: Tensor, images: list[Tensor], config: AdaptConfig):
    """Train the word of one sound -> (AudioToken, losses). The best token of a stopped run is kept as a file."""
    config.validate()
    _check_models(model, clip)
    latents = encode_references(model, vae, images, config.resolution)
    words = word_statistics(clip)
    with gradients():
        start = initial_token(audio_feature.clone(), words, config.seed)
        diffusion = _plain_clone(model)
        _load(diffusion, clip, latents, config)
        with _prepared(diffusion, clip), frozen_aliases(diffusion.model, clip.cond_stage_model):
            sigmas = diffusion.model.model_sampling.sigmas.detach().clone().float().cpu()
            loss = DiffusionLoss(diffusion, clip, config.prompt)
            trainer = AdapterTrainer(start, latents.clone(), sigmas, loss, config)
            with _keeps_the_best(trainer):
                return trainer.run(_report_steps(config.steps)), trainer.losses


class DiffusionLoss:
    """Eq. 6 on the host's models: vectors of A* and a noisy sample in, a scalar with gradients out."""

    def __init__(self, diffusion, clip, prompt: str):
        self._model, self._clip = diffusion.model, clip
        self._device = diffusion.load_device
        self._prompt = replace_words(prompt, spell)
        sampling = self._model.model_sampling
        self._flow = isinstance(sampling, comfy.model_sampling.CONST)
        self._options = {**diffusion.model_options.get("transformer_options", {})}
        self._options["optimized_attention_override"] = pytorch_attention

    def __call__(self, vectors: dict[str, Tensor], sample: NoisySample) -> Tensor:
        sample = NoisySample(*(t.to(self._device) for t in (sample.latents, sample.noise, sample.sigmas)))
        noisy = self._model.model_sampling.noise_scaling(sample.sigmas, sample.noise.clone(), sample.latents)
        conditions = self._conditions(vectors, noisy)
        options = {**self._options, "sigmas": sample.sigmas}
        denoised = self._model.apply_model(noisy, sample.sigmas, transformer_options=options, **conditions)
        return diffusion_loss(noisy, denoised, sample, flow=self._flow)

    def _conditions(self, vectors: dict[str, Tensor], noisy: Tensor) -> dict:
        tokens = with_words(self._clip, {1: vectors}).tokenize(self._prompt)
        # Not clip.encode_from_tokens: that would load the text encoder anew in each step and may evict the UNet.
        cond, pooled = self._clip.cond_stage_model.encode_token_weights(tokens)[:2]
        height, width = noisy.shape[-2:]
        prepared = self._model.extra_conds(
            cross_attn=cond.to(self._device),
            pooled_output=None if pooled is None else pooled.to(self._device),
            noise=noisy,
            device=self._device,
            width=8 * width,
            height=8 * height,
            prompt_type="positive",
        )
        return {key: c.process_cond(batch_size=noisy.shape[0], area=None).cond for key, c in prepared.items()}


def encode_references(model, vae, images: list[Tensor], resolution: int) -> Tensor:
    """Reference pictures, each (B, H, W, C) in 0..1 -> latents (R, c, h, w) as the diffusion model sees them, on CPU."""
    pictures = [picture for image in images for picture in image]
    if not pictures:
        raise TrainingError(
            "There are no reference pictures", "A word is learned from 3 to 5 pictures", "Connect some to `references`"
        )
    latents = []
    for number, picture in enumerate(pictures, start=1):
        mm.throw_exception_if_processing_interrupted()
        latents.append(vae.encode(_prepare_picture(picture, number, resolution)))
    latents = torch.cat(latents).float().cpu()
    wanted = model.model.latent_format.latent_channels
    if latents.ndim != 4 or latents.shape[1] != wanted:
        raise TrainingError(
            f"The VAE makes latents of shape {tuple(latents.shape[1:])}",
            f"The model works on {wanted} channels",
            "Connect the VAE of the same checkpoint",
        )
    return model.model.process_latent_in(latents)


def _prepare_picture(picture: Tensor, number: int, resolution: int) -> Tensor:
    """One picture (H, W, C) -> (1, resolution, resolution, 3): colour, no alpha, centre crop."""
    if not bool(torch.isfinite(picture).all()):
        raise TrainingError(
            f"Reference picture {number} holds values that are not numbers", "Pixels lie in 0..1", "Replace the picture"
        )
    channels = picture.shape[-1]
    colour = picture[..., :3] if channels >= 3 else picture[..., :1].expand(*picture.shape[:-1], 3)
    pixels = colour.unsqueeze(0).movedim(-1, 1)
    pixels = comfy.utils.common_upscale(pixels, resolution, resolution, "lanczos", "center")
    return pixels.movedim(1, -1).clamp(0.0, 1.0)


def word_statistics(clip) -> dict[str, WordStatistics]:
    """Norm and spread of the vocabulary of each text encoder of `clip`."""
    statistics = {}
    for name, tokenizer in sub_tokenizers(clip).items():
        encoder = getattr(clip.cond_stage_model, name)
        rows = encoder.transformer.get_input_embeddings().weight.detach().float()
        norm, std = float(rows.norm(dim=-1).median()), float(rows.std())
        statistics[tokenizer.embedding_key] = WordStatistics(norm, std, rows.shape[-1])
    return statistics


def _check_models(model, clip) -> None:
    require_family(clip)
    network = getattr(model.model, "diffusion_model", None)
    if not isinstance(network, UNetModel):
        raise TrainingError(
            f"The model is a {type(network).__name__}",
            "Training works with the UNets of SD1.x, SD2.x and SDXL; other families come later",
            "Load a checkpoint of one of these families",
        )
    unet = model.model.model_config.unet_config
    if unet.get("in_channels", 4) != model.model.latent_format.latent_channels:
        raise TrainingError(
            f"The model takes {unet['in_channels']} input channels, as inpainting models do",
            f"Training needs a plain text-to-image model ({model.model.latent_format.latent_channels} channels)",
            "Train on the base model; the word works in its inpainting model as well",
        )
    width = sum(t.embedding_size for t in require_family(clip).values())
    if unet.get("context_dim") != width:
        raise TrainingError(
            f"The CLIP gives {width} values a token",
            f"The model expects {unet.get('context_dim')}",
            "Connect the CLIP of the same checkpoint",
        )


def _plain_clone(model):
    """A clone whose weights lie in memory as a whole; hosts that stream weights need to be asked for it."""
    try:
        return model.clone(disable_dynamic=True)
    except TypeError:
        return model.clone()


def _load(diffusion, clip, latents: Tensor, config: AdaptConfig) -> None:
    shape = [config.batch_size, *latents.shape[1:]]
    needed = GRADIENT_MEMORY * diffusion.memory_required(shape)
    # Offloaded weights would be overwritten before backward reads them.
    mm.load_models_gpu([diffusion, clip.patcher], memory_required=needed, force_full_load=True)


@contextlib.contextmanager
def _prepared(diffusion, clip):
    encoder = clip.cond_stage_model
    encoder.reset_clip_options()
    if clip.layer_idx is not None:
        encoder.set_clip_options({"layer": clip.layer_idx})
    encoder.set_clip_options({"execution_device": clip.patcher.load_device})
    diffusion.pre_run()
    try:
        yield
    finally:
        diffusion.cleanup()
        encoder.reset_clip_options()


def _report_steps(steps: int):
    bar = comfy.utils.ProgressBar(steps)

    def on_step(trainer: AdapterTrainer) -> None:
        bar.update_absolute(trainer.step, steps)
        mm.throw_exception_if_processing_interrupted()

    return on_step


@contextlib.contextmanager
def _keeps_the_best(trainer: AdapterTrainer):
    """Save the best token of a run that does not reach its end, and say where it is."""
    try:
        yield
    except BaseException as error:
        where = _save_partial(trainer.best, trainer)
        stopped = "cancelled" if isinstance(error, mm.InterruptProcessingException) else "stopped by an error"
        text = f"Training was {stopped} after {trainer.step} of {trainer.config.steps} steps. {where}"
        log.warning(text)
        tell(text)
        if isinstance(error, TrainingError):
            raise TrainingError(error.found, error.expected, f"{error.do}. {where}") from None
        raise


def _save_partial(token: AudioToken, trainer: AdapterTrainer) -> str:
    path = folders.partial_tokens_folder() / f"{trainer.identity()}-step{trainer.best_step}.safetensors"
    try:
        token.save(path)
    except TokenError as error:
        return f"Its best token could not be kept: {error}"
    return f"Its best token (of step {trainer.best_step}) is output/{path.parent.name}/{path.name}"
