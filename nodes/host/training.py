"""The bridge between the trainer and the host's frozen models (Eq. 6 inside ComfyUI)."""

from __future__ import annotations

import contextlib
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
from ...aai_models.errors import TrainingError
from .autograd import frozen_aliases, gradients, weights_digest
from .bridging import bridge_of
from .keeper import Keeper
from .loss import DiffusionLoss
from .preview import Options, Previews, sheet
from .references import Groups, encode_all
from .text import require_family
from .vocabulary import word_rows, word_statistics

# Activations of a step with gradients over those of one sampling step; the host's own estimate covers the latter.
GRADIENT_MEMORY = 4


@dataclass(frozen=True)
class Trained:
    """What a training gives."""

    token: AudioToken  # the best word, of the first sound
    losses: list[float]  # of each step
    report: Report
    sheet: Tensor  # references, previews, loss: (1, H, W, 3) in 0..1


def train(
    model,
    clip,
    vae,
    sounds: Tensor,
    groups: Groups,
    config: AdaptConfig,
    masks: list[Tensor] = (),
    *,
    resume_from: str = "",
    options: Options | None = None,
) -> Trained:
    """Train the word of a sound, or of several sounds of one class that share an adapter (Fig. 6b).

    `sounds` (K, D), unit norm; `groups`: the pictures of each. A run goes on where an earlier one with the same
    inputs stopped, and one that ended gives its result again; `resume_from` names an earlier run to insist on.
    """
    options = options or Options()
    config.validate()
    _check_models(model, clip)
    references = encode_all(model, vae, groups, list(masks), config.resolution, config.flip)
    words = word_statistics(clip)
    rows = word_rows(clip, config.words) if config.start == "words" else {}
    bridge = bridge_of(clip) if config.bridge == "ridge" else None
    with gradients():
        start, *others = (
            initial_token(sound.clone(), words, config, bridge.carry(sound.clone()) if bridge else None, rows)
            for sound in sounds
        )
        diffusion = _plain_clone(model)
        _load(diffusion, clip, references.latents, config)
        with _prepared(diffusion, clip), frozen_aliases(diffusion.model, clip.cond_stage_model):
            sigmas = diffusion.model.model_sampling.sigmas.detach().clone().float().cpu()
            draw = Draw(_ordinary(references), sigmas, training_prompts(config), config.timesteps)
            norms = {key: word.mean_norm for key, word in words.items()} if config.norm_control == "dti" else {}
            loss = DiffusionLoss(diffusion, clip)
            trainer = AdapterTrainer(start, draw, loss, config, norms, tuple(others))
            inputs = {**trainer.inputs(), "model": weights_digest(diffusion.model), "clip": _clip_digest(clip)}
            keeper = Keeper(trainer, inputs, resume_from)
            pictures = Previews(loss, config, references.latents.shape[1:], options)
            with keeper.keeps():
                token = trainer.run(_watch(keeper, pictures, options))
                keeper.save()
                found = report(trainer)
    return Trained(token, trainer.losses, found, sheet(vae, model, groups, pictures, trainer))


def _clip_digest(clip) -> str:
    return f"{weights_digest(clip.cond_stage_model)} layer {clip.layer_idx}"


def _watch(keeper: Keeper, pictures: Previews, options: Options):
    """What happens after each step: progress with a picture, a checkpoint, a chance to cancel."""
    bar = comfy.utils.ProgressBar(keeper.trainer.config.steps)

    def on_step(trainer: AdapterTrainer) -> None:
        bar.update_absolute(trainer.step, trainer.config.steps, pictures.after(trainer))
        if trainer.step % options.checkpoint_every == 0:
            keeper.save()
        mm.throw_exception_if_processing_interrupted()

    return on_step


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
