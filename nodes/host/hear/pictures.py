"""Pictures between Pillow and the host's IMAGE, and the picture library inside the host."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....aai_models.align.convert import file_sha256
from ....aai_models.align.images import open_picture
from ....aai_models.align.library import Library, build
from ....aai_models.draw import contact_sheet
from ....aai_models.errors import LibraryError
from ..base import folders, walks
from ..base.messages import tell, tell_progress
from ..base.types import AudioFeature
from .imagebind import HostedImageBind
from .vision_h import VisionSide


def to_image(picture: Image.Image) -> Tensor:
    """A picture -> IMAGE (1, H, W, 3) in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0).unsqueeze(0)


def to_picture(image: Tensor) -> Image.Image:
    """One picture (H, W, C) in 0..1, whatever its channels -> Pillow."""
    colour = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(*image.shape[:-1], 3)
    return Image.fromarray((colour.detach().cpu().float().nan_to_num().clamp(0, 1) * 255).round().byte().numpy())


@lru_cache(maxsize=16)
def _encoder_hash(path: str, size: int, time: int) -> str:
    return file_sha256(path)


def _picture_hash(encoder) -> str:
    """By which an index of pictures knows what encoded them."""
    if isinstance(encoder, VisionSide):
        return encoder.picture_hash
    status = Path(encoder.path).stat()
    return _encoder_hash(encoder.path, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Found:
    """Pictures for a sound, best first, the user's own before all."""

    images: list[Tensor]  # IMAGE (1, H, W, 3) each
    sheet: Tensor  # IMAGE of all of them with captions
    scores: list[float]  # cosines; 1 for the user's own


def find_for_sound(
    encoder,
    feature: AudioFeature,
    folder: str,
    k: int,
    minimum: float,
    one_per_source: bool,
    own: list[Tensor],
    vision=None,
) -> Found:
    """`k` pictures for the first sound of `feature`: `own` (H, W, C) first, then the nearest of a folder.

    `vision`, a CLIP_VISION, sees for encoders whose sounds lie in its space; others see by themselves.
    """
    if feature.encoder != encoder.name:
        raise LibraryError(
            f"The sound was encoded with {feature.encoder}, but the pictures use {encoder.name}",
            "Both must be encoded with the same encoder",
            "Connect the same Load Audio Encoder (AAI) to both nodes",
        )
    if vision is not None and isinstance(encoder, HostedImageBind):
        encoder = VisionSide(encoder, vision)
    images, names = [image[None] for image in own[:k]], ["your own"] * len(own[:k])
    scores = [1.0] * len(images)
    if len(images) < k:
        _require_sight(encoder, k)
        place = folders.picture_folder(folder)
        for image, name, score in _retrieve(
            encoder, feature.vectors[0], place, k - len(images), minimum, one_per_source
        ):
            images.append(image)
            names.append(f"{score:.3f}  {name}")
            scores.append(score)
    if not images:
        raise LibraryError(
            f"No picture has a similarity of {minimum:g} or more",
            "At least one is needed",
            "Lower `minimum_similarity`, or connect pictures of your own",
        )
    return Found(images, to_image(contact_sheet([to_picture(image[0]) for image in images], names)), scores)


def _require_sight(encoder, k: int) -> None:
    """Raise `LibraryError` for an encoder that cannot encode pictures, where fewer than `k` are connected."""
    if encoder.has_images:
        return
    found = f"The encoder {encoder.name} cannot encode pictures"
    if isinstance(encoder, HostedImageBind):
        raise LibraryError(
            found,
            "ImageBind's sounds lie in the space of CLIP Vision ViT-H",
            "Connect Load CLIP Vision with CLIP-ViT-H-14 to `clip_vision`",
        )
    raise LibraryError(
        found,
        "Finding pictures needs a CAVT-MAE file with both towers, or ImageBind with CLIP Vision ViT-H",
        "Choose one in Load Audio Encoder (AAI), or connect as many pictures of your own to `own_pictures` as `k` says: "
        f"{k}",
    )


def _retrieve(
    encoder, feature: Tensor, folder: Path, k: int, minimum: float, one_per_source: bool
) -> list[tuple[Tensor, str, float]]:
    """The `k` pictures of a folder nearest to a feature (D,): IMAGE, name, cosine. Encodes what is new in it first; can
    be cancelled. Pictures that went or broke since they were encoded are passed over."""
    index = folders.library_index(folder)
    library = Library.open(folder, _picture_hash(encoder), index)
    report = build(library, encoder.encode_image, index, _on_progress(), walk=walks.open_walk(folder))
    if report.added or report.removed or report.corrupt or report.outside:
        tell(f"{len(library)} pictures: {report}")
    found, matches = [], library.query(feature, 2 * k, minimum, one_per_source)
    for match in matches:
        with contextlib.suppress(OSError, ValueError):
            found.append((to_image(open_picture(match.path)), match.path.name, match.similarity))
        if len(found) == k:
            break
    if matches and not found:
        raise LibraryError(
            f"The {len(matches)} pictures found in {folder.name} cannot be read any more",
            "The folder must stay available while it is read",
            "Connect its drive again, then run again",
        )
    return found


def _on_progress():
    bar: list[comfy.utils.ProgressBar] = []
    started = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        if total:
            bar.append(comfy.utils.ProgressBar(total)) if not bar else bar[0].update_absolute(done, total)
        if done:
            tell_progress(f"{done} of {total} pictures, {done / (time.monotonic() - started + 1e-9):.1f} per second")

    return on_progress
