"""Eq. 6 inside ComfyUI: from a sound and pictures to a trained word, with what is needed to go on, to watch and to cancel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.model_base
import comfy.model_management as mm
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.objective import Draw, References
from ....aai_models.adapt.prompts import training_prompts
from ....aai_models.adapt.report import Report, report
from ....aai_models.adapt.token import AudioToken, audio_features
from ....aai_models.adapt.trainer import AdapterTrainer
from ....aai_models.align.alignment import CLIP_L
from ....aai_models.errors import TrainingError
from ..base.prompt_words import require_encoders
from ..base.types import AudioFeature
from .best_word import at_best_word
from .frozen import FrozenModels, frozen
from .loss import DiffusionLoss
from .memory import StepMemory, first_way
from .plan import Plan, plan
from .preview import Curve, Options, Previews, sheet
from .references import Groups, encode_all, require_pictures
from .run_files import RunFiles
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
    sounds: AudioFeature | Tensor,
    groups: Groups,
    config: AdaptConfig,
    masks: list[Tensor] = (),
    *,
    resume_from: str = "",
    options: Options | None = None,
    vision=None,
) -> Trained:
    """Train the word of a sound, or of several sounds of one class that share an adapter (Fig. 6b).

    `sounds`: K of them, or their unit vectors (K, D) alone, which count as aligned with CLIP-L: code that has no more than
    vectors knows what they are; `groups`: the pictures of each; `vision`: a CLIP vision model,
    for the warm start alone. A run goes on where an earlier one with the same inputs stopped, and one that ended gives its
    result again without loading a model; `resume_from` names an earlier run to insist on. Raises `TrainingError` and
    `TokenError`.
    """
    sounds = sounds if isinstance(sounds, AudioFeature) else AudioFeature(sounds, aligned_with=CLIP_L)
    job = _Job(model, clip, vae, vision, groups, list(masks), config, options or Options())
    job.require()
    planned = plan(model, clip, vae, vision, sounds, groups, job.masks, config)
    files = RunFiles(planned.inputs, audio_features(planned.starts), resume_from)
    stored = files.result()
    return job.run(planned, files) if stored is None else job.stored(planned, files, *stored)


@dataclass(frozen=True)
class _Job:
    """What a person connected and set."""

    model: object
    clip: object
    vae: object
    vision: object | None
    groups: Groups
    masks: list[Tensor]
    config: AdaptConfig
    options: Options

    def require(self) -> None:
        """Raise for what cannot be trained, before anything is loaded."""
        self.config.validate()
        check_models(self.model, self.clip)
        if getattr(self.vae, "first_stage_model", None) is None:
            raise TrainingError(
                "There is no VAE",
                "Training encodes the pictures with it",
                "Connect Load VAE, or a checkpoint that holds one",
            )
        require_pictures(self.groups, self.masks)
        if self.config.start == "warm_start":
            require_vision(self.vision)

    def stored(self, planned: Plan, files: RunFiles, adapters, record: dict, found: Report) -> Trained:
        """The result of a run that ended before."""
        token = replace(planned.starts[0], adapters=adapters, metadata=record["best"])
        shown = files.sheet()
        if shown is None:
            curve = Curve(record["losses"], record["held_out_losses"], int(record["best_step"]), found.total)
            shown = sheet(None, None, self.groups, [], curve)
        return Trained(token, list(record["losses"]), found, shown)

    def run(self, planned: Plan, files: RunFiles) -> Trained:
        """Train from the start, or from where an earlier run stopped, to the end."""
        config = self.config
        references = encode_all(self.model, self.vae, self.groups, self.masks, config.resolution, config.flip)
        starts = self._warmed(planned.starts)
        shape = [config.batch_size, *references.latents.shape[1:]]
        with frozen(self.model, self.clip, shape) as models:
            draw = Draw(_ordinary(references), planned.sigmas.clone(), training_prompts(config), config.timesteps)
            loss = DiffusionLoss(models)
            way = first_way(models.diffusion, shape, self.options.low_memory)
            with StepMemory(models, way, f"A step of {config.batch_size} x {config.resolution} px") as memory:
                choose = (self.clip, draw, loss, _trainable(starts), config, planned.candidates)
                starts, notes = memory.fitted(lambda: at_best_word(*choose))
                trainer = _trainer(starts, draw, loss, config, planned)
                files.go_on(trainer)
                pictures = Previews(loss, config, references.latents.shape[1:], self.options)
                with files.keeps(trainer):
                    watch = _watch(files, trainer, pictures, self.options)
                    token = memory.fitted(lambda: trainer.run(watch), trainer.rewind)
                    found = memory.fitted(lambda: replace(report(trainer), notes=(*notes, *planned.notes)))
                    files.save(trainer, found)
        shown = sheet(self.vae, self.model, self.groups, pictures.drawn, Curve.of(trainer))
        files.save_sheet(shown)
        return Trained(token, trainer.losses, found, shown)

    def _warmed(self, starts: tuple[AudioToken, ...]) -> tuple[AudioToken, ...]:
        """The starts after the warm start: one adapter, learned with the first sound."""
        if self.config.start != "warm_start" or self.config.mode == "sound_only":
            return starts
        token, _ = warmed(self.clip, image_features(self.vision, self.groups), starts[0], self.config)
        return tuple(replace(start, adapters=token.adapters) for start in starts)


def _trainer(starts: tuple[AudioToken, ...], draw: Draw, loss: DiffusionLoss, config: AdaptConfig, planned: Plan):
    """The trainer at step 0."""
    norms = {key: word.mean_norm for key, word in planned.words.items()} if config.norm_control == "dti" else {}
    first, *others = starts
    return AdapterTrainer(first, draw, loss, config, norms, tuple(others), loss_scale=_loss_scale(loss.models))


def _loss_scale(models: FrozenModels) -> float:
    model = models.diffusion.model
    compute = getattr(model, "manual_cast_dtype", None) or model.get_dtype()
    return FP16_LOSS_SCALE if str(compute) == "torch.float16" else 1.0


def _watch(files: RunFiles, trainer: AdapterTrainer, pictures: Previews, options: Options):
    """What happens after each step: progress with a picture, a checkpoint, a chance to cancel."""
    bar = comfy.utils.ProgressBar(trainer.config.steps)

    def on_step(trainer: AdapterTrainer) -> None:
        bar.update_absolute(trainer.step, trainer.config.steps, pictures.after(trainer))
        if trainer.step % options.checkpoint_every == 0:
            files.save(trainer)
        mm.throw_exception_if_processing_interrupted()

    return on_step


def _ordinary(references: References) -> References:
    """Copies that autograd may save; the host made the originals in inference mode."""
    masks = None if references.masks is None else references.masks.clone()
    return replace(references, latents=references.latents.clone(), masks=masks)


def _trainable(starts: tuple[AudioToken, ...]) -> tuple[AudioToken, ...]:
    """The same for what a sound's bridge gave."""
    return tuple(replace(s, directions={key: d.clone() for key, d in s.directions.items()}) for s in starts)


def check_models(model, clip) -> None:
    """Raise `TrainingError` or `TokenError` for models that training does not work with."""
    if isinstance(model.model, comfy.model_base.SDXLRefiner):
        raise TrainingError(
            "The model is SDXL's refiner",
            "A word is learned at every noise level; the refiner only works at low noise",
            "Train on the base model; the word works in the refiner as well",
        )
    encoders = require_encoders(clip)
    network = getattr(model.model, "diffusion_model", None)
    if not isinstance(network, UNetModel):
        raise TrainingError(
            f"The model is a {type(network).__name__}",
            "Training works with the UNets of SD1.x, SD2.x and SDXL; other families are not supported yet",
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
            f"The CLIP gives {width} values for each token",
            f"The model expects {unet.get('context_dim')}",
            "Connect the CLIP of the same checkpoint",
        )
