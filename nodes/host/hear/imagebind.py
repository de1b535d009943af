"""ImageBind's audio trunk in ComfyUI's care, and its embeddings as the host's own of pictures."""

from __future__ import annotations

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.align.alignment import CLIP_H
from ....aai_models.align.imagebind import TOKENS, ImageBindAudio, require_hearing
from ....aai_models.align.imagebind_audio import mel_pictures
from ....aai_models.align.imagebind_files import read_trunk
from ....aai_models.align.imagebind_text import has_text
from ..base.loading import load_model
from .hosted import Streamed, finite, storage_type
from .imagebind_texts import ClipHTexts, TrunkTexts, texts_of_clip

BATCH = 8  # pictures in one pass; between passes a run can be cancelled


class HostedImageBind:
    """ImageBind's audio trunk. `patcher` is what the host loads, moves and counts."""

    has_images = False  # in its file; the host's CLIP Vision ViT-H sees in the same space
    centre = None
    aligned_with = CLIP_H

    def __init__(self, model: ImageBindAudio, name: str, path: str, patcher_class):
        device, offload = mm.text_encoder_device(), mm.text_encoder_offload_device()
        self.model, self.name, self.path, self.dim = model, name, path, model.config.dim
        self._texts: TrunkTexts | None = None
        self.patcher = patcher_class(model, load_device=device, offload_device=offload)

    @property
    def note(self) -> str:
        """What a person should know before using it."""
        return f"{self.name} is under the licence CC BY-NC-SA 4.0: not for commercial use."

    def aligned_text(self, clip: object = None) -> TrunkTexts | ClipHTexts | None:
        """Texts in the space of its sounds: by the text trunk of its file, else by the connected CLIP if that is SD2.x's.

        None where there is neither. Raises `CheckpointError` for an SD2 text encoder that is not whole.
        """
        if self._texts is None and has_text(self.path):
            self._texts = TrunkTexts(self.path, self.name, self.dim)
        return self._texts or (texts_of_clip(clip, self.dim) if clip is not None else None)

    def get_ram_usage(self) -> int:
        """Bytes of the weights, for the host's cache."""
        return mm.module_size(self.model)

    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """Sounds (B, C, T) -> unit vectors (B, D), as `AudioEncoder` says."""
        return self.hear(waveform, sample_rate, **policies)[0]

    def hear(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Tensor, tuple[float, ...]]:
        """`encode`, and the length of each published embedding: `scale`, or less where a sound's parts differ."""
        embedded = self.embed(waveform, sample_rate, **policies)
        return F.normalize(embedded, dim=-1), tuple(embedded.norm(dim=-1).tolist())

    def embed(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """Sounds (B, C, T) -> the published embeddings (B, D), float32, CPU. Shows progress, can be cancelled."""
        pictures = mel_pictures(waveform, sample_rate, **policies)  # (B, W, 1, 128, 204)
        progress = comfy.utils.ProgressBar(pictures.shape[0] * pictures.shape[1])
        raw = []
        for batch in pictures.flatten(0, 1).split(BATCH):
            raw.append(self._run(batch))
            progress.update(batch.shape[0])
        return finite(self.model.embed(torch.cat(raw).unflatten(0, pictures.shape[:2])))

    def _run(self, batch: Tensor) -> Tensor:
        activations = batch.shape[0] * TOKENS * self.model.config.mlp_dim * 4
        load_model(self.patcher, memory_required=6 * activations)
        return self.model(batch.to(self.patcher.load_device, torch.float32)).cpu()


def load_imagebind(path: str, name: str) -> HostedImageBind:
    """Read the audio trunk of an ImageBind file and hand it to the host. Raises `CheckpointError`."""
    hosted = _hosted(path, name, Streamed)
    require_hearing(hosted.encode)
    return hosted


def _hosted(path: str, name: str, patcher_class) -> HostedImageBind:
    config, tensors = read_trunk(path)
    settings = {"operations": comfy.ops.manual_cast, "device": mm.text_encoder_offload_device()}
    model = ImageBindAudio.from_tensors(tensors, config, dtype=storage_type(tensors.values()), **settings)
    hosted = HostedImageBind(model, name, path, patcher_class)
    hosted.patcher.cached_patcher_init = (_plain_patcher, (path, name))
    return hosted


def _plain_patcher(path: str, name: str, disable_dynamic: bool = False):
    """The file once more in a patcher of its own, for a host that wants one that is not streamed, or on another device."""
    return _hosted(path, name, comfy.model_patcher.ModelPatcher if disable_dynamic else Streamed).patcher
