"""AudioToken in ComfyUI's care: built from the host's own layers, loaded and offloaded by it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.align.aligned_text import Shares, shares_of
from ....aai_models.align.alignment import CLIP_L_ROWS
from ....aai_models.align.audiotoken.encoder import audiotoken_input, require_different, unlike_inputs
from ....aai_models.align.audiotoken.files import AudioTokenFiles, read_files
from ....aai_models.align.audiotoken.model import AudioTokenNet
from ..base.loading import load_model
from .hosted import Streamed, finite, storage_type

NO_DROPOUT = -1


class HostedAudioToken:
    """BEATs and the embedder as one model. Its features are rows of CLIP-L's token table: words, but for their length.

    `seed` draws the published code's dropout; None leaves it out, and each sound has one word.
    """

    has_images = False
    centre = None
    aligned_with = CLIP_L_ROWS

    def __init__(self, files: AudioTokenFiles, folder: Path, name: str, dropout_seed: int, patcher_class):
        device, offload = mm.text_encoder_device(), mm.text_encoder_offload_device()
        settings = {"operations": comfy.ops.manual_cast, "dtype": storage_type(files.tensors.values())}
        self.model: AudioTokenNet = files.build(**settings, device=offload)
        self.path, self.dim, self.note = str(folder), self.model.width, " ".join(files.notes)
        self.seed = None if dropout_seed == NO_DROPOUT else dropout_seed
        self.name = name if self.seed is None else f"{name} (dropout {self.seed})"
        self.patcher = patcher_class(self.model, load_device=device, offload_device=offload)
        self._classes = files.classes
        self._last: tuple[str, tuple[Tensor, Tensor]] = ("", (torch.empty(0), torch.empty(0)))

    def get_ram_usage(self) -> int:
        """Bytes of the weights, for the host's cache."""
        return mm.module_size(self.model)

    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """Sounds (B, C, T) -> unit vectors (B, 768), as `AudioEncoder` says."""
        return self.hear(waveform, sample_rate, **policies)[0]

    def hear(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Tensor, tuple[float, ...]]:
        """`encode`, and the length of each row: both together are AudioToken's word (the mean over its windows)."""
        rows, _ = self._listen(waveform, sample_rate, **policies)
        return F.normalize(rows, dim=-1), tuple(rows.norm(dim=-1).tolist())

    def label_shares(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Shares, ...]:
        """What BEATs' own classifier hears in each sound: ((name of a class of AudioSet, share), ...), the largest first.

        Its probabilities, which stand apart for each class, divided by their sum. Nothing where the file names no classes.
        """
        if not self._classes:
            return ()
        _, probabilities = self._listen(waveform, sample_rate, **policies)
        return tuple(shares_of(list(self._classes), row) for row in probabilities)

    def run(self, fbank: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B, F, 128) -> rows (B, 768), class probabilities (B, classes); float32, CPU."""
        config = self.model.beats.config
        tokens = fbank.shape[1] // 2  # 8 for each 16 frames
        values = tokens * (6 * config.mlp_dim + 3 * config.heads * tokens)
        load_model(self.patcher, memory_required=4 * fbank.shape[0] * values)
        rows, probabilities = self.model(fbank.to(self.patcher.load_device, torch.float32), self.seed)
        return finite(rows.cpu()), probabilities.cpu()

    def _listen(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Tensor, Tensor]:
        """Rows (B, 768) and class probabilities (B, classes). Shows progress, can be cancelled between windows.

        The last answer is kept: who asks for words asks for labels next, and both come from one pass.
        """
        asked = hashlib.sha256(waveform.cpu().contiguous().numpy().tobytes())
        asked.update(repr((tuple(waveform.shape), sample_rate, sorted(policies.items()))).encode())
        if asked.hexdigest() != self._last[0]:
            inputs = audiotoken_input(waveform, sample_rate, **policies)  # (B, W, F, 128)
            self._last = (asked.hexdigest(), self._run_all(inputs))
        return self._last[1]

    def _run_all(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B, W, F, 128) -> what `run` gives, the mean over the windows of each sound."""
        progress, found = comfy.utils.ProgressBar(inputs.shape[0] * inputs.shape[1]), []
        for window in inputs.flatten(0, 1).split(1):
            found.append(self.run(window))
            progress.update(1)
        rows, probabilities = (
            torch.cat(part).unflatten(0, inputs.shape[:2]).mean(1) for part in zip(*found, strict=True)
        )
        return rows, probabilities


def load_audiotoken(folder: Path, name: str, dropout_seed: int = NO_DROPOUT) -> HostedAudioToken:
    """Read the files of a folder and hand them to the host. Raises `CheckpointError` for what is not as published."""
    hosted = _hosted(folder, name, dropout_seed, Streamed)
    require_different(hosted.run(unlike_inputs())[0])
    return hosted


def _hosted(folder: Path, name: str, dropout_seed: int, patcher_class) -> HostedAudioToken:
    hosted = HostedAudioToken(read_files(folder), folder, name, dropout_seed, patcher_class)
    hosted.patcher.cached_patcher_init = (_plain_patcher, (folder, name, dropout_seed))
    return hosted


def _plain_patcher(folder: Path, name: str, dropout_seed: int, disable_dynamic: bool = False):
    """The files once more in a patcher of its own, for a host that wants one that is not streamed, or on another device."""
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else Streamed
    return _hosted(folder, name, dropout_seed, kind).patcher
