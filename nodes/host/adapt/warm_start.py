"""The warm start on the host's CLIP and CLIP vision models; the diffusion model is not touched."""

from __future__ import annotations

import comfy.model_management as mm
import comfy.utils
import torch
from torch import Tensor

from ....aai_models.adapt.config import AdaptConfig
from ....aai_models.adapt.prompts import training_prompts
from ....aai_models.adapt.token import AudioToken
from ....aai_models.adapt.warm import spherical_distance, warm_start
from ....aai_models.errors import TrainingError
from ....aai_models.inject.words import replace_words
from ..base.prompt_words import spell, sub_tokenizers, with_words
from .frozen import frozen_text

PLAUSIBLE = (1e-4, 0.5)  # spread of the values of a projection that was loaded


def require_vision(vision) -> None:
    """Raise `TrainingError` unless a CLIP vision model is connected."""
    if vision is None or not hasattr(vision, "encode_image"):
        raise TrainingError(
            "There is no CLIP vision model",
            "`start` is set to warm_start, which compares the word with the pictures by CLIP",
            "Connect Load CLIP Vision to `clip_vision`, or choose another start",
        )


def image_features(vision, groups: list[list[Tensor]]) -> Tensor:
    """CLIP's projected features of every reference picture, (R, D) float32, CPU."""
    found = []
    for picture in (picture for group in groups for batch in group for picture in batch):
        mm.throw_exception_if_processing_interrupted()
        colour = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].expand(*picture.shape[:-1], 3)
        found.append(vision.encode_image(colour[None].float())["image_embeds"].float().cpu())
    return torch.cat(found)


def warmed(clip, images: Tensor, start: AudioToken, config: AdaptConfig) -> tuple[AudioToken, list[float]]:
    """`start` turned towards the pictures' features `images` (R, D), for each text encoder that shares their space.

    Raises `TrainingError` where none does.
    """
    names = _encoders_of_width(clip, images.shape[-1])
    norms = {key: max(float(start.vectors[key].norm(dim=-1).mean()), 1e-3) for key in names}
    bar = comfy.utils.ProgressBar(1)

    def on_step(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        mm.throw_exception_if_processing_interrupted()

    with frozen_text(clip, projected_pooled=True) as whole:
        ordinary = images.clone()

        def distance(vectors: dict[str, Tensor], prompt: str) -> Tensor:
            tokens = with_words(whole, {1: vectors}).tokenize(replace_words(prompt, spell))
            total = 0.0
            for name in names.values():
                tower = getattr(whole.cond_stage_model, name)
                pooled = tower.encode_token_weights(tokens[name.removeprefix("clip_")])[1]
                total = total + spherical_distance(pooled[0].float().cpu(), ordinary)
            return total

        return warm_start(start, norms, distance, training_prompts(config), config.seed, on_step)


def _encoders_of_width(clip, width: int) -> dict[str, str]:
    """Embedding key -> attribute name of the text encoders that project into a space of `width` values."""
    found, reasons = {}, []
    for name, tokenizer in sub_tokenizers(clip).items():
        tower = getattr(clip.cond_stage_model, name)
        projection = tower.transformer.text_projection.weight.data.float()
        if not _has_projection(tower, projection):
            reasons.append(f"{name} has no text projection")
        elif projection.shape[0] != width:
            reasons.append(f"{name} projects to {projection.shape[0]} values")
        else:
            found[tokenizer.embedding_key] = name
    if not found:
        raise TrainingError(
            f"The CLIP vision model gives {width} values, but {', '.join(reasons)}",
            "Text and vision model must be of one CLIP: ViT-L for clip_l, ViT-H for clip_h, ViT-bigG for clip_g. Checkpoints "
            "of SD1.x have no text projection",
            "Load the text encoder with Load CLIP (for SD1.x: clip_l.safetensors) and connect its vision model, or choose "
            "another start",
        )
    return found


def _has_projection(tower, projection: Tensor) -> bool:
    """Whether a file held the projection: the host leaves it uninitialised, or an identity, where none did."""
    if getattr(tower, "projection_is_identity", False):  # the pocket's
        return True
    identity = torch.eye(*projection.shape, device=projection.device)
    return PLAUSIBLE[0] < float(projection.std()) < PLAUSIBLE[1] and not torch.equal(projection, identity)
