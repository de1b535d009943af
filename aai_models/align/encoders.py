"""One interface for everything that hears: CAVT-MAE, and encoders of `transformers` from a local folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.fbank import encoder_input, mean_of_windows, mono_sound
from ..audio.resample import resample
from ..audio.windows import cut_windows
from ..errors import CheckpointError
from .cavt_mae import CAVTMAE

SECONDS = 10.0  # heard at most by the encoders of `transformers`
# model_type of config.json -> class of `transformers`
FAMILIES = {"clap": "ClapModel", "pe_audio": "PeAudioModel"}


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
    """CLAP or PE-AV from a folder that `save_pretrained` wrote. Build one with `from_folder`.

    `model` may be moved by whoever owns it; inputs follow it.
    """

    has_images = False

    def __init__(self, model, extractor, name: str):
        self.model, self._extractor, self.name = model, extractor, name
        self.sample_rate = int(extractor.sampling_rate)
        self.dim = _feature_width(model.config)

    @classmethod
    def from_folder(cls, folder: str | Path) -> TransformersEncoder:
        """Read config, weights and feature extractor. Never downloads. Raises `CheckpointError` with the reason."""
        folder = Path(folder)
        family = read_family(folder)
        transformers = _import_transformers()
        if not hasattr(transformers, FAMILIES[family]):
            raise CheckpointError(
                f"{folder.name} needs {FAMILIES[family]}, which transformers {transformers.__version__} does not have",
                "A newer transformers knows it",
                "Update ComfyUI's requirements, or choose another encoder",
            )
        try:
            options = {"local_files_only": True}
            extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **options)
            model = getattr(transformers, FAMILIES[family]).from_pretrained(folder, use_safetensors=True, **options)
        except Exception as error:
            raise CheckpointError(
                f"{folder.name} cannot be read as {FAMILIES[family]} ({type(error).__name__}: {str(error)[:200]})",
                "The folder holds config.json, preprocessor_config.json and model.safetensors",
                "Fetch the missing files from where the encoder is published",
            ) from None
        return cls(model.eval().requires_grad_(False), extractor, folder.name)

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
        if self.model.config.model_type == "clap":
            options |= {"padding": "pad" if short_clip == "silence" else "repeatpad", "truncation": "rand_trunc"}
            if self.model.config.audio_config.enable_fusion:
                options["truncation"] = "fusion"
        return dict(self._extractor(sounds, **options))

    def _features(self, inputs: dict) -> Tensor:
        if self.model.config.model_type == "clap":
            features = self.model.get_audio_features(**inputs)
        else:
            features = self.model.get_audio_embeds(**inputs)
        features = getattr(features, "pooler_output", features)  # newer versions return an object
        return F.normalize(features, dim=-1)


def read_family(folder: Path) -> str:
    """The model_type of a folder's config.json; raises `CheckpointError` unless it is a known one."""
    try:
        family = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder.name} has no readable config.json ({type(error).__name__})",
            "An encoder's folder holds config.json, preprocessor_config.json and model.safetensors",
            "Copy the whole folder as it is published",
        ) from None
    if family not in FAMILIES:
        raise CheckpointError(
            f"{folder.name} is a {family!r} model",
            f"Known audio encoders are {', '.join(FAMILIES)}",
            "Choose another folder",
        )
    return family


def _import_transformers():
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError(
            f"transformers cannot be imported ({error})",
            "ComfyUI brings it, and encoders other than CAVT-MAE need it",
            "Install ComfyUI's requirements again",
        ) from None
    return transformers


def _feature_width(config) -> int:
    return config.projection_dim if config.model_type == "clap" else config.text_config.hidden_size
