"""The bridge between the trainer and the host's frozen models (Eq. 6 inside ComfyUI)."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace

import comfy.model_management as mm
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ...aai_models.adapt.config import AdaptConfig
from ...aai_models.adapt.objective import Draw
from ...aai_models.adapt.prompts import training_prompts
from ...aai_models.adapt.report import Report, report
from ...aai_models.adapt.start import initial_token
from ...aai_models.adapt.token import AudioToken
from ...aai_models.adapt.trainer import AdapterTrainer
from ...aai_models.errors import TokenError, TrainingError
from . import folders
from .autograd import frozen_aliases, gradients
from .loss import DiffusionLoss
from .messages import tell
from .references import Groups, encode_all
from .text import require_family
from .vocabulary import word_rows, word_statistics

log = logging.getLogger(__name__)
# Activations of a step with gradients over those of one sampling step; the host's own estimate covers the latter.
GRADIENT_MEMORY = 4


@dataclass(frozen=True)
class Trained:
    """What a training gives."""

    token: AudioToken  # the best word, of the first sound
    losses: list[float]  # of each step
    report: Report


def train(model, clip, vae, sounds: Tensor, groups: Groups, config: AdaptConfig, masks: list[Tensor] = ()) -> Trained:
    """Train the word of a sound, or of several sounds of one class that share an adapter (Fig. 6b).

    `sounds` (K, D), unit norm; `groups`: the pictures of each. The best token of a stopped run is kept as a file.
    """
    config.validate()
    _check_models(model, clip)
    references = encode_all(model, vae, groups, list(masks), config.resolution, config.flip)
    words = word_statistics(clip)
    rows = word_rows(clip, config.words) if config.start == "words" else {}
    with gradients():
        start, *others = (initial_token(sound.clone(), words, config, rows=rows) for sound in sounds)
        diffusion = _plain_clone(model)
        _load(diffusion, clip, references.latents, config)
        with _prepared(diffusion, clip), frozen_aliases(diffusion.model, clip.cond_stage_model):
            sigmas = diffusion.model.model_sampling.sigmas.detach().clone().float().cpu()
            draw = Draw(_ordinary(references), sigmas, training_prompts(config), config.timesteps)
            norms = {key: word.mean_norm for key, word in words.items()} if config.norm_control == "dti" else {}
            loss = DiffusionLoss(diffusion, clip)
            trainer = AdapterTrainer(start, draw, loss, config, norms, tuple(others))
            with _keeps_the_best(trainer):
                token = trainer.run(_report_steps(config.steps))
                return Trained(token, trainer.losses, report(trainer))


def _ordinary(references):
    """Copies that autograd may save; the host made the originals in inference mode."""
    masks = None if references.masks is None else references.masks.clone()
    return replace(references, latents=references.latents.clone(), masks=masks)


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
