"""Texts in the space of ImageBind's sounds: by the text trunk of its file, or by the CLIP of an SD2.x checkpoint.

Both are OpenCLIP ViT-H/14's text encoder, in the host's own class.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import cached_property
from types import SimpleNamespace

import comfy.clip_model
import comfy.model_management as mm
import comfy.ops
import comfy.text_encoders.sd2_clip
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....aai_models.align.alignment import CLIP_H
from ....aai_models.align.imagebind import EPS
from ....aai_models.align.imagebind_files import DO
from ....aai_models.align.imagebind_text import OPENCLIP_SCALE, TextTrunk, read_text, text_scale
from ....aai_models.errors import CheckpointError
from ....aai_models.shapes import first_difference, shapes_of
from ..base.digest import patched_digest
from ..base.folders import file_fingerprint
from ..base.loading import load_model
from ..base.prompt_words import sub_tokenizers
from .hosted import Streamed, finite, storage_type

BATCH = 64  # texts in one pass; between passes a run can be cancelled
START, END, PAD, LONGEST = 49406, 49407, 0, 75
# The host's class made of plain layers: its table of names is the same wherever its own layers get their weights.
PLAIN = SimpleNamespace(Linear=nn.Linear, LayerNorm=nn.LayerNorm, Embedding=nn.Embedding)


class _TextsOfViTH(ABC):
    """What both have in common."""

    prompt = "photo"  # sounds were trained towards pictures, and it is pictures that these texts describe
    name: str
    dim: int
    scale: float

    @abstractmethod
    def _load(self) -> tuple[nn.Module, torch.device]:
        """The host's text model, in its place, and where that is."""

    @abstractmethod
    def _ids(self, text: str) -> list[int]:
        """The numbers of a text's tokens, without start and end."""

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """N texts -> unit vectors (N, D), float32, CPU. Shows progress, can be cancelled between batches."""
        bar, found = comfy.utils.ProgressBar(len(texts)), []
        for first in range(0, len(texts), BATCH):
            mm.throw_exception_if_processing_interrupted()
            model, device = self._load()
            part = [self._ids(text)[:LONGEST] for text in texts[first : first + BATCH]]
            tokens = [[START, *ids, END] + [PAD] * (LONGEST - len(ids)) for ids in part]
            ends = [len(ids) + 2 for ids in part]
            pooled = model(torch.tensor(tokens, device=device), num_tokens=ends, dtype=torch.float32)[2]
            found.append(F.normalize(pooled.float(), dim=-1).cpu())
            bar.update(len(part))
        return finite(torch.cat(found))


class TrunkTexts(_TextsOfViTH):
    """`AlignedText` of the text trunk of an ImageBind file. The trunk is read when texts are first encoded."""

    def __init__(self, path: str, name: str, dim: int):
        self._path, self._patcher, self._tokenizer = path, None, None
        self.name, self.dim, self.scale = f"{name}'s own texts", dim, text_scale(path)

    @cached_property
    def digest(self) -> str:
        """A hash of the file."""
        return file_fingerprint(self._path)[:16]

    def _load(self) -> tuple[nn.Module, torch.device]:
        if self._patcher is None:
            model = _build(read_text(self._path), os.path.basename(self._path), self.dim)
            device, offload = mm.text_encoder_device(), mm.text_encoder_offload_device()
            self._patcher = Streamed(model, load_device=device, offload_device=offload)
        load_model(self._patcher)
        return self._patcher.model, self._patcher.load_device

    def _ids(self, text: str) -> list[int]:
        if self._tokenizer is None:
            self._tokenizer = comfy.text_encoders.sd2_clip.SD2ClipHTokenizer().tokenizer
        return self._tokenizer(text)["input_ids"][1:-1]


class ClipHTexts(_TextsOfViTH):
    """`AlignedText` of a CLIP with SD2.x's text encoder."""

    name, scale = "SD2's texts", OPENCLIP_SCALE

    def __init__(self, clip):
        self._clip = clip
        self._tokenizer = next(t for t in sub_tokenizers(clip).values() if t.embedding_key == CLIP_H)
        self.dim = self._tokenizer.embedding_size

    @cached_property
    def digest(self) -> str:
        """A hash of the CLIP's weights and patches."""
        return patched_digest(self._clip.patcher)

    def _load(self) -> tuple[nn.Module, torch.device]:
        with torch.inference_mode():
            self._clip.load_model()
        return self._clip.cond_stage_model.clip_h.transformer, self._clip.patcher.load_device

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.tokenizer(text)["input_ids"][1:-1]


def texts_of_clip(clip, dim: int) -> ClipHTexts | None:
    """The texts of a CLIP that shares ImageBind's space, None for any other.

    SD2's text encoder as diffusers saves it lacks the last layer and the projection: raises `CheckpointError`.
    """
    sizes = {t.embedding_key: t.embedding_size for t in sub_tokenizers(clip).values()}
    if sizes.get(CLIP_H) != dim:
        return None
    state = clip.cond_stage_model.clip_h.transformer.state_dict()
    layer = max(int(name.split(".")[3]) for name in state if name.startswith("text_model.encoder.layers."))
    for name in ("text_projection.weight", f"text_model.encoder.layers.{layer}.layer_norm2.weight"):
        tensor = state.get(name)
        if tensor is None or not bool(tensor.float().isfinite().all()) or not bool(tensor.float().any()):
            raise CheckpointError(
                f"The connected CLIP has no {name}",
                "The text encoder of SD2.x is needed with all 24 layers and its projection, as in a whole checkpoint",
                "Connect the CLIP of a whole SD2.x checkpoint, or use imagebind_huge.pth, which has texts of its own",
            )
    return ClipHTexts(clip)


def _build(trunk: TextTrunk, name: str, dim: int) -> nn.Module:
    """The host's text model with the trunk's weights. Raises `CheckpointError` unless all fit."""
    expected = shapes_of(lambda: comfy.clip_model.CLIPTextModel(trunk.config, torch.float32, "meta", PLAIN))
    wrong = first_difference(expected, trunk.tensors)
    if wrong is not None or expected["text_projection.weight"][0] != dim:
        found = trunk.tensors.get(wrong or "text_projection.weight")
        raise CheckpointError(
            f"The text trunk of {name} does not fit: {wrong or 'text_projection.weight'} is "
            f"{'missing' if found is None else tuple(found.shape)}",
            "It must be OpenCLIP ViT-H's text encoder, as wide as the sounds",
            DO,
        )
    dtype, device = storage_type(trunk.tensors.values()), mm.text_encoder_offload_device()
    model = comfy.clip_model.CLIPTextModel(trunk.config, dtype, device, comfy.ops.manual_cast)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPS
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in trunk.tensors.items()})
    return model.eval().requires_grad_(False)
