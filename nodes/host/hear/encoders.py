"""Encoders as models of the host: loaded and offloaded by it. CAVT-MAE is built from the host's own layers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.align.alignment import read_alignment
from ....aai_models.align.audiotoken.files import audiotoken_folder
from ....aai_models.align.cavt_mae import CAVTMAE, encoder_tensors
from ....aai_models.align.centre import read_centre
from ....aai_models.align.encoders import TransformersEncoder
from ....aai_models.align.foreign_files import explain_file
from ....aai_models.align.imagebind_files import find_weights
from ....aai_models.align.self_test import self_test
from ....aai_models.align.texts import OwnTexts, own_texts
from ....aai_models.audio.fbank import encoder_input, mean_of_windows
from ....aai_models.errors import CheckpointError
from ..base.digest import identify
from ..base.loading import load_model
from ..base.model_files import read_tensors
from .audiotoken import NO_DROPOUT, HostedAudioToken, load_audiotoken
from .hosted import Streamed, finite, storage_type
from .imagebind import HostedImageBind, load_imagebind

WORDS = 64  # texts in one pass
BATCH = 8  # spectrograms in one pass; between passes a run can be cancelled


class HostedCAVT:
    """An encoder in ComfyUI's care. `patcher` is what the host loads, moves and counts.

    `aligned_with`: the text space that its sounds lie in, `alignment.KNOWN`; "" for none. Its file says so.
    """

    def __init__(self, model: CAVTMAE, name: str, path: str, patcher_class=comfy.model_patcher.ModelPatcher):
        device, offload = mm.text_encoder_device(), mm.text_encoder_offload_device()
        self.model, self.name, self.path = model, name, path
        self.centre, self.aligned_with = read_centre(path), read_alignment(path)
        self.patcher = patcher_class(model, load_device=device, offload_device=offload)

    @property
    def dim(self) -> int:
        return self.model.config.dim

    @property
    def has_images(self) -> bool:
        return self.model.has_images

    def get_ram_usage(self) -> int:
        """Bytes of the weights, for the host's cache."""
        return comfy.model_management.module_size(self.model)

    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """Sounds (B, C, T) -> unit vectors (B, D), as `AudioEncoder` says."""
        return self.hear(waveform, sample_rate, **policies)[0]

    def hear(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Tensor, tuple[float, ...]]:
        """`encode`, and the norm of each feature before it was brought to unit length (the mean over its windows)."""
        clips = waveform.shape[0]
        pooled = self._pool(encoder_input(waveform, sample_rate, **policies))
        norms = pooled.norm(dim=-1).reshape(clips, -1).mean(1)
        return mean_of_windows(F.normalize(pooled, dim=-1), clips=clips), tuple(norms.tolist())

    def encode_audio(self, fbank: Tensor) -> Tensor:
        """Spectrograms (B, 1024, 128) -> unit vectors (B, D), float32, CPU. Shows progress, can be cancelled."""
        return F.normalize(self._pool(fbank), dim=-1)

    def _pool(self, fbank: Tensor) -> Tensor:
        progress = comfy.utils.ProgressBar(fbank.shape[0])
        features = []
        for batch in fbank.split(BATCH):
            features.append(self._run(self.model.pool_audio, batch, self.model.config.audio_tokens))
            progress.update(batch.shape[0])
        return finite(torch.cat(features))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, 224, 224), ImageNet-normalised -> unit vectors (B, D), float32, CPU."""
        return self._run(self.model.encode_image, pixels, self.model.config.image_tokens)

    def _run(self, encode, batch: Tensor, tokens: int) -> Tensor:
        activations = batch.shape[0] * tokens * self.model.config.mlp_dim * 4
        load_model(self.patcher, memory_required=6 * activations)
        return encode(batch.to(self.patcher.load_device, torch.float32)).cpu()


class _Holder(torch.nn.Module):
    """The host marks the models that it patches with attributes, which models of `transformers` refuse."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model


class HostedTransformers:
    """An encoder of `transformers` whose memory ComfyUI manages. Always loaded whole, as its layers are not the host's."""

    has_images = False
    aligned_with = ""  # its sounds lie among its own texts

    def __init__(self, encoder: TransformersEncoder, path: str):
        self.encoder, self.name, self.dim, self.path = encoder, encoder.name, encoder.dim, path
        self.centre = read_centre(path)
        self._texts: HostedTexts | None = None
        self.patcher = comfy.model_patcher.ModelPatcher(
            _Holder(encoder.model),
            load_device=mm.text_encoder_device(),
            offload_device=mm.text_encoder_offload_device(),
        )

    @property
    def note(self) -> str:
        """What a person should know about how it encodes; empty for most."""
        return self.encoder.note

    def get_ram_usage(self) -> int:
        """Bytes of the weights, for the host's cache."""
        return mm.module_size(self.encoder.model)

    def texts(self) -> HostedTexts:
        """Its own text side. Raises `CheckpointError` where its folder has no tokenizer."""
        self._load()
        return HostedTexts(own_texts(self.encoder, Path(self.path)), self._load, self.patcher)

    def aligned_text(self, clip: object = None) -> HostedTexts:
        """`texts`, read once. They belong to the encoder: the connected CLIP does not matter."""
        if self._texts is None:
            self._texts = self.texts()
        return self._texts

    def _load(self) -> None:
        load_model(self.patcher, force_full_load=True)

    def hear(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Tensor, tuple[float, ...]]:
        """`encode`, and no norms: these models give unit vectors."""
        return self.encode(waveform, sample_rate, **policies), ()

    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """Sounds (B, C, T) -> unit vectors (B, D). Shows progress, can be cancelled between sounds."""
        self._load()
        progress = comfy.utils.ProgressBar(waveform.shape[0])
        features = []
        for sound in waveform.split(1):
            mm.throw_exception_if_processing_interrupted()
            features.append(self.encoder.encode(sound, sample_rate, **policies))
            progress.update(1)
        return finite(torch.cat(features))


class HostedTexts:
    """The text side of a `HostedTransformers`: the same weights, loaded by the host when texts are encoded."""

    def __init__(self, texts: OwnTexts, load_model: Callable[[], None], patcher):
        self._texts, self._load_model, self._patcher = texts, load_model, patcher
        self.dim, self.name, self.prompt, self.scale = texts.dim, texts.name, texts.prompt, texts.scale

    @cached_property
    def digest(self) -> str:
        """A hash of the weights and the vocabulary, the same wherever the weights lie."""
        return identify(self._patcher, sorted(self._texts.vocabulary.items())).digest[:16]

    def encode(self, texts: list[str]) -> Tensor:
        """N texts -> unit vectors (N, D), float32, CPU. Shows progress, can be cancelled between batches."""
        progress, features = comfy.utils.ProgressBar(len(texts)), []
        for first in range(0, len(texts), WORDS):
            self._load_model()
            features.append(self._texts.encode(texts[first : first + WORDS]))
            progress.update(len(texts[first : first + WORDS]))
        return finite(torch.cat(features))


HOSTED = (HostedCAVT, HostedTransformers, HostedAudioToken, HostedImageBind)  # what the wire CAVT_MODEL carries


def load_any(
    path: str, dropout_seed: int = NO_DROPOUT
) -> HostedCAVT | HostedTransformers | HostedAudioToken | HostedImageBind:
    """Load a CAVT-MAE file, an ImageBind file or folder, AudioToken's folder, or one with an encoder of `transformers`.

    `dropout_seed` is AudioToken's. Raises `CheckpointError`.
    """
    audiotoken = audiotoken_folder(Path(path))
    if audiotoken is not None:
        return load_audiotoken(audiotoken, Path(path).stem, dropout_seed)
    imagebind = find_weights(path)
    if imagebind is not None:
        return load_imagebind(str(imagebind), os.path.basename(path))
    if os.path.isdir(path):
        hosted = HostedTransformers(TransformersEncoder.from_folder(path, tested=False), path)
        hosted.encoder.self_test(hosted.encode)
        return hosted
    try:
        return load(path)
    except CheckpointError as error:
        raise explain_file(path) or error from None


def load(path: str) -> HostedCAVT:
    """Read a CAVT-MAE file and hand it to the host. Raises `CheckpointError` for anything else."""
    hosted = _hosted(path, Streamed)
    self_test(hosted.encode_audio, encode_image=hosted.encode_image if hosted.has_images else None)
    return hosted


def _hosted(path: str, patcher_class) -> HostedCAVT:
    name = os.path.basename(path)
    tensors = encoder_tensors(read_tensors(path, name, CheckpointError))
    dtype = storage_type(tensors.values())
    settings = {"operations": comfy.ops.manual_cast, "dtype": dtype, "device": mm.text_encoder_offload_device()}
    hosted = HostedCAVT(CAVTMAE.from_state_dict(tensors, **settings), name, path, patcher_class)
    hosted.patcher.cached_patcher_init = (_plain_patcher, (path,))
    return hosted


def _plain_patcher(path: str, disable_dynamic: bool = False):
    """The file once more in a patcher of its own, for a host that wants one that is not streamed, or on another device."""
    return _hosted(path, comfy.model_patcher.ModelPatcher if disable_dynamic else Streamed).patcher
