"""Reference pictures and masks, as the diffusion model sees them."""

from __future__ import annotations

import hashlib

import comfy.model_management as mm
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.adapt.objective import References
from ....aai_models.errors import TrainingError
from ..base.digest import weights_digest

Groups = list[list[Tensor]]  # for each sound its pictures, each (B, H, W, C) in 0..1


def encode_all(model, vae, groups: Groups, masks: list[Tensor], resolution: int, flip: bool) -> References:
    """Encode the pictures of every sound. `masks`: (B, H, W) in 0..1, one for each picture in order, or none."""
    images = [image for group in groups for image in group]
    latents = encode_references(model, vae, images, resolution, flip)
    owners = [index for index, group in enumerate(groups) for image in group for _ in image]
    prepared = _prepare_masks(masks, len(owners), latents.shape[-2:], resolution)
    if flip:
        owners = owners * 2
        prepared = None if prepared is None else torch.cat([prepared, prepared.flip(-1)])
    return References(latents, prepared, tuple(owners) if len(groups) > 1 else ())


def pictures_digest(vae, groups: Groups, masks: list[Tensor]) -> str:
    """A hash of the pictures of each sound, the masks and the VAE, before anything is encoded."""
    digest = hashlib.sha256(weights_digest(vae.first_stage_model).encode())
    for name, tensors in [*((f"sound {i}", group) for i, group in enumerate(groups)), ("masks", masks)]:
        digest.update(name.encode())
        for tensor in tensors:
            digest.update(repr(tuple(tensor.shape)).encode() + tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def require_pictures(groups: Groups, masks: list[Tensor]) -> None:
    """Raise `TrainingError` for pictures or masks that nothing can be learned from, before anything is loaded."""
    pictures = [picture for group in groups for image in group for picture in image]
    if not pictures:
        raise TrainingError(
            "There are no reference pictures", "A word needs 3 to 5 pictures", "Connect some to `references`"
        )
    for number, picture in enumerate(pictures, start=1):
        if picture.ndim != 3 or 0 in picture.shape:
            raise TrainingError(
                f"Reference picture {number} has the shape {tuple(picture.shape)}",
                "It must have height, width and colours",
                "Replace the picture",
            )
        if not bool(torch.isfinite(picture).all()):
            raise TrainingError(
                f"Reference picture {number} contains NaN or infinity", "Pixels lie in 0..1", "Replace the picture"
            )
    _require_masks(masks, len(pictures))


def _single_masks(masks: list[Tensor]) -> list[Tensor]:
    """Masks (B, H, W) or (H, W) -> one (H, W) for each."""
    return [single.float() for mask in masks for single in (mask if mask.ndim == 3 else mask[None])]


def _require_masks(masks: list[Tensor], pictures: int) -> None:
    single = _single_masks(masks)
    if len(single) not in (0, 1, pictures):
        raise TrainingError(
            f"There are {len(single)} masks for {pictures} pictures",
            "Each picture has its own mask, or one mask counts for all",
            "Connect as many masks as pictures",
        )
    for number, mask in enumerate(single, start=1):
        if mask.ndim != 2 or 0 in mask.shape:
            raise TrainingError(
                f"Mask {number} has the shape {tuple(mask.shape)}", "It has height and width", "Connect a MASK"
            )
        if not bool(torch.isfinite(mask).all()) or float(mask.max()) <= 0:
            raise TrainingError(
                f"Mask {number} is empty, or contains NaN or infinity",
                "The word is learned from its white areas",
                "Paint it, or disconnect it",
            )


def encode_references(model, vae, images: list[Tensor], resolution: int, flip: bool = False) -> Tensor:
    """Reference pictures, each (B, H, W, C) in 0..1 -> latents (R, c, h, w) as the diffusion model sees them, on CPU.

    `flip` appends the latents of the mirrored pictures.
    """
    pictures = [picture for image in images for picture in image]
    latents = []
    prepared = [_prepare_picture(picture, resolution) for picture in pictures]
    for picture in [*prepared, *(p.flip(2) for p in prepared if flip)]:
        mm.throw_exception_if_processing_interrupted()
        latents.append(vae.encode(picture).float().cpu())
    latents = torch.cat(latents)
    wanted = model.model.latent_format.latent_channels
    if latents.ndim != 4 or latents.shape[1] != wanted:
        raise TrainingError(
            f"The VAE makes latents of shape {tuple(latents.shape[1:])}",
            f"The model needs {wanted} channels",
            "Connect the VAE of the same checkpoint",
        )
    numbers = latents.isfinite().flatten(1).all(1)
    if not bool(numbers.all()):
        raise TrainingError(
            f"The VAE made NaN or infinity from reference picture {int(numbers.int().argmin()) % len(pictures) + 1}",
            "Latents must be finite; some VAEs, such as that of SDXL, overflow in fp16",
            "Start ComfyUI with --bf16-vae or --fp32-vae, or connect a VAE that works in fp16",
        )
    return model.model.process_latent_in(latents)


def _prepare_picture(picture: Tensor, resolution: int) -> Tensor:
    """One picture (H, W, C) -> (1, resolution, resolution, 3): colour, no alpha, centre crop."""
    channels = picture.shape[-1]
    colour = picture[..., :3] if channels >= 3 else picture[..., :1].expand(*picture.shape[:-1], 3)
    pixels = colour.unsqueeze(0).movedim(-1, 1)
    pixels = comfy.utils.common_upscale(pixels, resolution, resolution, "lanczos", "center")
    return pixels.movedim(1, -1).clamp(0.0, 1.0)


def _prepare_masks(masks: list[Tensor], count: int, size: tuple[int, int], resolution: int) -> Tensor | None:
    """Masks (B, H, W) -> (count, 1, h, w) at the latents' size, cropped as the pictures are."""
    single = _single_masks(masks)
    if not single:
        return None
    prepared = []
    for mask in single * count if len(single) == 1 else single:
        square = comfy.utils.common_upscale(mask[None, None], resolution, resolution, "bilinear", "center")
        prepared.append(F.interpolate(square, size=size, mode="area").clamp(0.0, 1.0).cpu())
    return torch.cat(prepared)
