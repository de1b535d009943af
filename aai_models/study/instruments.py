"""The encoders of the figures, from a folder of published weights. What is not there says where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..align.cavt_mae import CAVTMAE
from ..align.convert import read_state_dict
from ..align.encoders import CAVTEncoder
from ..align.images import image_input
from ..audio.decode import decode_audio
from .clip import CLIP
from .lpips import BACKBONE, HEADS, LPIPS
from .measures import Instruments, unit
from .wav2clip import Wav2CLIP

LARGE, BASE, WAV2CLIP, LPIPS_FOLDER = "clip-vit-large-patch14", "clip-vit-base-patch32", "wav2clip", "lpips"
WAV2CLIP_FILE = "Wav2CLIP.pt"


def published(models: Path, cavt: Path | None = None) -> Instruments:
    """The instruments of a folder: CLIP ViT-L/14 and ViT-B/32, Wav2CLIP, LPIPS. `cavt`: a CAVT-MAE with both towers, which
    takes Wav2CLIP's place. Raises `StudyError` for weights that are there and damaged."""
    large = CLIP(models / LARGE) if (models / LARGE).is_dir() else None
    no_clip = f"It needs OpenAI's CLIP ViT-L/14: put the folder openai/{LARGE} into {models}."
    hears, hears_name = _hearing(models, cavt)
    lpips = models / LPIPS_FOLDER
    has_lpips = all((lpips / name).is_file() for name in (BACKBONE, HEADS))
    no_lpips = f"It needs LPIPS: put torchvision's {BACKBONE} and {HEADS} of LPIPS 0.1 into {lpips}."
    return Instruments(
        hears=hears,
        hears_name=hears_name,
        names=large.name_pictures if large else no_clip,
        names_name="CLIP ViT-L/14",
        reads=large.score if large else no_clip,
        reads_name="CLIP ViT-L/14",
        sees=large.see if large else no_clip,
        sees_name="CLIP ViT-L/14",
        differs=LPIPS.from_folder(lpips).distances if has_lpips else no_lpips,
        differs_name="LPIPS 0.1, AlexNet",
    )


def _hearing(models: Path, cavt: Path | None):
    """(similarities of pictures and sounds, or why there are none; the encoder's name)."""
    if cavt is not None:
        return _of_cavt(cavt), f"CAVT-MAE {cavt.name}"
    checkpoint, clip = models / WAV2CLIP / WAV2CLIP_FILE, models / BASE
    name = "Wav2CLIP and CLIP ViT-B/32"
    if not checkpoint.is_file() or not clip.is_dir():
        lacking = [] if clip.is_dir() else [f"the folder openai/{BASE} into {models}"]
        lacking += [] if checkpoint.is_file() else [f"{WAV2CLIP_FILE} of Wav2CLIP into {models / WAV2CLIP}"]
        return f"It needs {name}: put {' and '.join(lacking)}; or name a CAVT-MAE file with --cavt.", name
    ear, eye = Wav2CLIP.from_file(checkpoint), CLIP(clip)

    def similarities(pictures: Sequence[Image.Image], sounds: list[Path]) -> Tensor:
        return eye.see(pictures) @ ear.hear(sounds).T

    return similarities, name


def _of_cavt(path: Path):
    model = CAVTMAE.from_state_dict({name: tensor.float() for name, tensor in read_state_dict(path).items()}).eval()
    if not model.has_images:
        return f"{path.name} has no image tower. Name a CAVT-MAE file that has one."
    encoder = CAVTEncoder(model)

    @torch.inference_mode()
    def similarities(pictures: Sequence[Image.Image], sounds: list[Path]) -> Tensor:
        heard = []
        for sound in sounds:
            waveform, rate = decode_audio(sound)
            heard.append(encoder.encode(waveform[None], rate))
        seen = [model.encode_image(image_input(picture)[None]) for picture in pictures]
        return unit(torch.cat(seen)) @ unit(torch.cat(heard)).T

    return similarities
