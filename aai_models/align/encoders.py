"""One interface for all audio encoders: CAVT-MAE, and encoders of `transformers` from a local folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.fbank import encoder_input, mean_of_windows, mono_sound
from ..audio.resample import resample
from ..audio.windows import cut_windows
from .cavt_mae import CAVTMAE
from .published_folders import load_folder
from .self_test import require_two

DISTINCT = 1e-4  # least distance of two features, unless the weights are empty
SECONDS = 10.0  # that the encoders of `transformers` use at most


@runtime_checkable
class AudioEncoder(Protocol):
    """Anything that turns sounds into unit vectors."""

    name: str
    dim: int  # D
    has_images: bool  # whether pictures can be encoded into the same space

    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        """(B, C, T) at any rate (Hz) -> unit vectors (B, D), float32. Policies are those of `encoder_input`."""
        ...


class CAVTEncoder:
    """CAVT-MAE behind the interface."""

    def __init__(self, model: CAVTMAE, name: str = "CAVT-MAE"):
        self.model, self.name = model, name
        self.dim, self.has_images = model.config.dim, model.has_images

    @torch.inference_mode()
    def encode(self, waveform: Tensor, sample_rate: int, **policies: str) -> Tensor:
        fbank = encoder_input(waveform, sample_rate, **policies)
        return mean_of_windows(self.model.encode_audio(fbank), clips=waveform.shape[0])


class TransformersEncoder:
    """CLAP or PE from a folder as it is published. Build one with `from_folder`.

    `model` may be moved by whoever owns it; inputs follow it.
    """

    has_images = False

    def __init__(self, model, extractor, name: str, kind: str):
        self.model, self._extractor, self.name, self.kind = model, extractor, name, kind
        self.sample_rate = int(extractor.sampling_rate)
        self.dim = model.config.projection_dim if kind == "clap" else model.config.text_config.hidden_size

    @classmethod
    def from_folder(cls, folder: str | Path, tested: bool = True) -> TransformersEncoder:
        """Read config, weights and feature extractor. Never downloads. Raises `CheckpointError` with the reason.

        `tested`: whether it is also tried on two noises; otherwise the owner calls `self_test` when it is in its place.
        """
        folder = Path(folder)
        kind, model, extractor = load_folder(folder)
        encoder = cls(model, extractor, folder.name, kind)
        if tested:
            encoder.self_test(encoder.encode)
        return encoder

    @property
    def note(self) -> str:
        """What a person should know about how it encodes; empty for most."""
        if self.kind == "pe_audio_frame":
            return f"{self.name} encodes each moment by itself; its features are averaged over the sound."
        return ""

    def self_test(self, encode) -> None:
        """Raise `CheckpointError` if `encode`, which is as `AudioEncoder.encode`, tells two unlike sounds not apart.

        `load_folder` found every tensor, so that only empty weights are left to be found: those give one and the same
        feature, to the last digits.
        """
        generator = torch.Generator().manual_seed(0)
        noises = torch.randn(2, 1, self.sample_rate, generator=generator).clamp(-3, 3) / 3
        noises[1] = 0.3 * noises[1].diff(dim=-1, prepend=noises[1][..., :1])  # brighter
        features = torch.cat([encode(noise[None], self.sample_rate) for noise in noises])
        require_two(features, "hears", "sounds", apart=DISTINCT)

    @torch.inference_mode()
    def encode(
        self,
        waveform: Tensor,
        sample_rate: int,
        short_clip: str = "tile",
        long_clip: str = "first",
        channels: str = "mean",
        level: str = "as_recorded",
    ) -> Tensor:
        """As the interface. `short_clip` is the extractor's own affair, but for CLAP's `silence`."""
        mono, sample_rate = mono_sound(waveform, sample_rate, short_clip, long_clip, channels, level)
        sound = cut_windows(mono, sample_rate, math.ceil(SECONDS * sample_rate), long_clip)
        sound = resample(sound, sample_rate, self.sample_rate)[:, : int(SECONDS * self.sample_rate)]
        inputs = self._extract(list(sound.numpy()), short_clip)
        weight = next(self.model.parameters())
        inputs = {k: v.to(weight.device, weight.dtype if v.is_floating_point() else None) for k, v in inputs.items()}
        return mean_of_windows(self._features(inputs).float().cpu(), clips=waveform.shape[0])

    def _extract(self, sounds: list, short_clip: str) -> dict:
        options = {"sampling_rate": self.sample_rate, "return_tensors": "pt"}
        if self.kind != "clap":
            return dict(self._extractor(sounds, **options))
        options |= {"padding": "pad" if short_clip == "silence" else "repeatpad", "truncation": "rand_trunc"}
        if not self.model.config.audio_config.enable_fusion:
            return dict(self._extractor(sounds, **options))
        # One sound a call: of several short ones the extractor marks one at random as long, and no value repeats.
        options["truncation"] = "fusion"
        apart = [self._extractor([sound], **options) for sound in sounds]
        return {key: torch.cat([torch.as_tensor(inputs[key]) for inputs in apart]) for key in apart[0]}

    def _features(self, inputs: dict) -> Tensor:
        hear = self.model.get_audio_features if self.kind == "clap" else self.model.get_audio_embeds
        features = hear(**inputs)
        features = getattr(features, "pooler_output", features)  # newer versions return an object
        features = F.normalize(features, dim=-1)
        if self.kind == "pe_audio_frame":  # (B, frames, D)
            features = F.normalize(features.mean(dim=1), dim=-1)
        return features
