"""The bridge between the trainer and the host's frozen models (Eq. 6 inside ComfyUI)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import comfy.model_base
import comfy.model_management as mm
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.objective import Draw
from ....aai_models.adapt.prompts import training_prompts
from ....aai_models.adapt.report import Report, report
from ....aai_models.adapt.token import AudioToken
from ....aai_models.adapt.trainer import AdapterTrainer
from ....aai_models.errors import TrainingError
from ..base.prompt_words import require_encoders
from . import memory
from .autograd import frozen_aliases, gradients
from .best_word import at_best_word
from .loss import DiffusionLoss
from .plan import Plan, Sounds, plan
from .preview import Curve, Options, Previews, sheet
from .references import Groups, encode_all, require_pictures
from .run_files import Keeper
from .warm_start import image_features, require_vision, warmed

FP16_LOSS_SCALE = 2.0**12  # lifts gradients over the smallest numbers of fp16


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
    sounds: Sounds | Tensor,
    groups: Groups,
    config: AdaptConfig,
    masks: list[Tensor] = (),
    *,
    resume_from: str = "",
    options: Options | None = None,
    vision=None,
) -> Trained:
    """Train the word of a sound, or of several sounds of one class that share an adapter (Fig. 6b).

    `sounds`: unit vectors (K, D), or with what else is known of them; `groups`: the pictures of each; `vision`: a CLIP
    vision model, for the warm start alone. A run goes on where an earlier one with the same inputs stopped, and one that
    ended gives its result again without loading a model; `resume_from` names an earlier run to insist on.
    """
    options = options or Options()
    sounds = sounds if isinstance(sounds, Sounds) else Sounds(sounds)
    config.validate()
    check_models(model, clip)
    if getattr(vae, "first_stage_model", None) is None:
        raise TrainingError(
            "There is no VAE", "It encodes the pictures", "Connect Load VAE, or a checkpoint that holds one"
        )
    require_pictures(groups, masks)
    if config.start == "warm_start":
        require_vision(vision)
    planned = plan(model, clip, vae, vision, sounds, groups, list(masks), config)
    keeper = Keeper(planned.inputs, resume_from)
    stored = keeper.result()
    if stored is not None:
        return _stored(planned, keeper, groups, *stored)
    references = encode_all(model, vae, groups, list(masks), config.resolution, config.flip)
    starts = _warm(clip, vision, groups, planned.starts, config)
    with gradients():
        diffusion = _plain_clone(model)
        _load(diffusion, clip, references.latents, config)
        with _prepared(diffusion, clip), frozen_aliases(diffusion.model, clip.cond_stage_model):
            starts = tuple(replace(token, directions=_ordinary_table(token.directions)) for token in starts)
            draw = Draw(_ordinary(references), planned.sigmas.clone(), training_prompts(config), config.timesteps)
            norms = {key: word.mean_norm for key, word in planned.words.items()} if config.norm_control == "dti" else {}
            loss = DiffusionLoss(diffusion, clip)
            (first, *others), notes = at_best_word(clip, draw, loss, starts, config)
            trainer = AdapterTrainer(first, draw, loss, config, norms, tuple(others), loss_scale=_loss_scale(diffusion))
            keeper.go_on(trainer)
            pictures = Previews(loss, config, references.latents.shape[1:], options)
            with keeper.keeps(trainer), _room(diffusion, loss, trainer, options) as make_room:
                token = _run(trainer, make_room, _watch(keeper, trainer, pictures, options))
                found = replace(report(trainer), notes=(*notes, *(planned.bridge.text() if planned.bridge else ())))
                keeper.save(trainer, found)
    shown = sheet(vae, model, groups, pictures.drawn, Curve.of(trainer))
    keeper.save_sheet(shown)
    return Trained(token, trainer.losses, found, shown)


def _stored(planned: Plan, keeper: Keeper, groups: Groups, adapters, record: dict, found: Report) -> Trained:
    """The result of a run that ended before."""
    token = replace(planned.starts[0], adapters=adapters, metadata=record["best"])
    curve = Curve(record["losses"], record["held_out_losses"], int(record["best_step"]), found.total)
    shown = keeper.sheet()
    return Trained(
        token, list(record["losses"]), found, sheet(None, None, groups, [], curve) if shown is None else shown
    )


def _warm(clip, vision, groups: Groups, starts: tuple[AudioToken, ...], config: AdaptConfig) -> tuple[AudioToken, ...]:
    """The starts after the warm start: one adapter, learned with the first sound."""
    if config.start != "warm_start" or config.mode == "sound_only":
        return starts
    token, _ = warmed(clip, image_features(vision, groups), starts[0], config)
    return tuple(replace(start, adapters=token.adapters) for start in starts)


def _run(trainer: AdapterTrainer, make_room, on_step) -> AudioToken:
    """Train to the end; where memory does not suffice, once more from the last whole step in less of it."""
    try:
        return trainer.run(on_step)
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
        trainer.rewind()
    make_room()
    return trainer.run(on_step)


@contextlib.contextmanager
def _room(diffusion, loss: DiffusionLoss, trainer: AdapterTrainer, options: Options):
    """Choose how a step is computed by how much memory is free. Gives a function that changes to the way of less."""
    device, config = diffusion.load_device, trainer.config
    what = f"{config.batch_size} x {config.resolution} px"
    with contextlib.ExitStack() as stack:
        used = []

        def make_room() -> None:
            if used:
                raise memory.too_little_memory(f"A step of {what} needs more", mm.get_free_memory(device))
            used.append(True)
            mm.soft_empty_cache()
            stack.enter_context(memory.recomputed(diffusion.model.diffusion_model))

        sample = trainer.example()
        if options.low_memory:
            make_room()
        elif not memory.plenty(diffusion, sample, device):
            need = memory.needs(diffusion, loss, trainer.current().vectors, sample)
            if memory.choose(need, device, what):
                make_room()
        try:
            yield make_room
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            raise memory.too_little_memory(f"A step of {what} needs more", mm.get_free_memory(device)) from None


def _loss_scale(diffusion) -> float:
    compute = getattr(diffusion.model, "manual_cast_dtype", None) or diffusion.model.get_dtype()
    return FP16_LOSS_SCALE if str(compute) == "torch.float16" else 1.0


def _watch(keeper: Keeper, trainer: AdapterTrainer, pictures: Previews, options: Options):
    """What happens after each step: progress with a picture, a checkpoint, a chance to cancel."""
    bar = comfy.utils.ProgressBar(trainer.config.steps)

    def on_step(trainer: AdapterTrainer) -> None:
        bar.update_absolute(trainer.step, trainer.config.steps, pictures.after(trainer))
        if trainer.step % options.checkpoint_every == 0:
            keeper.save(trainer)
        mm.throw_exception_if_processing_interrupted()

    return on_step


def _ordinary(references):
    """Copies that autograd may save; the host made the originals in inference mode."""
    masks = None if references.masks is None else references.masks.clone()
    return replace(references, latents=references.latents.clone(), masks=masks)


def _ordinary_table(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in tensors.items()}


def check_models(model, clip) -> None:
    """Raise `TrainingError` or `TokenError` for models that training does not work with."""
    if isinstance(model.model, comfy.model_base.SDXLRefiner):
        raise TrainingError(
            "The model is SDXL's refiner",
            "It only finishes pictures that are nearly done, and a word is learned at every level of noise",
            "Train on the base model; the word works in the refiner as well",
        )
    encoders = require_encoders(clip)
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
    width = sum(t.embedding_size for t in encoders.values())
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
    needed = memory.FALLBACK * diffusion.memory_required(shape)
    try:
        # Offloaded weights would be overwritten before backward reads them.
        mm.load_models_gpu([diffusion, clip.patcher], memory_required=needed, force_full_load=True)
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
        size = (diffusion.model_size() + clip.patcher.model_size()) / memory.GIGABYTE
        raise TrainingError(
            f"The model and its text encoder take {size:.1f} GB, more than there is",
            "Training needs both in memory as a whole",
            "Load the model with fewer bits (fp8), close other programs, or train with a smaller model",
        ) from None


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
