"""The audio token: the word A* as vectors for each text encoder, and its file.

    v* = gain * s * f_a + f_Adapter        (Eq. 6: the row that stands for A* in the prompt)

`f_a` is the unit audio feature, `s` brings it to the norm of the text encoder's own words. The file is an ordinary
embedding: its only tensors are v* under the host's keys (`clip_l`, `clip_g`, ...), so that `embedding:name` works
without this pack. What the pack needs beyond v* (f_a, f_Adapter, s) travels in the file's header.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import TokenError
from ..files import read_header, write_atomically

FORMAT = "aai-audio-token-1"
LIFT_SEED = 0


def lift(feature: Tensor, width: int, seed: int = LIFT_SEED) -> Tensor:
    """Carry a feature (D,) into a space of another width by a fixed seeded matrix with orthonormal columns or rows.

    Equal widths return the feature itself; a wider space keeps its norm. Source: the pack's decision for SDXL and SD2.
    """
    dim = feature.shape[-1]
    if dim == width:
        return feature
    basis = _basis(max(dim, width), min(dim, width), seed).to(feature.dtype).to(feature.device)
    return feature @ (basis.T if width > dim else basis)


@lru_cache(maxsize=4)
def _basis(larger: int, smaller: int, seed: int) -> Tensor:
    """A seeded matrix (larger, smaller) with orthonormal columns, float64 on the CPU; nobody may write into it."""
    with torch.inference_mode(False):  # cached, and also used in trainings: so never an inference tensor
        tall = torch.randn(larger, smaller, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.linalg.qr(tall).Q


@dataclass(frozen=True)
class AudioToken:
    """The word A* of one sound."""

    audio_feature: Tensor  # f_a, (D,), unit norm
    adapters: dict[str, Tensor]  # f_Adapter for each text encoder: key -> (n, width)
    scales: dict[str, float]  # s for each text encoder
    gain: float = 1.0  # how much of the sound is in the word, 0..2
    metadata: dict[str, str] = field(default_factory=dict)  # how it was made
    # f_a among words, in place of the lift: key -> (width,), or (n, width) for a label of several tokens. Of unit norm, but
    # for an untrained label: its rows are then as long as they are, and s is 1.
    directions: dict[str, Tensor] = field(default_factory=dict)

    def sound(self, key: str) -> Tensor:
        """What of v* is the sound, gain s f_a, for one text encoder: (width,) or (n, width)."""
        direction = self.directions.get(key)
        if direction is None:
            direction = lift(self.audio_feature, self.adapters[key].shape[-1])
        return self.gain * self.scales[key] * direction

    @property
    def vectors(self) -> dict[str, Tensor]:
        """v* for each text encoder: key -> (n, width), float32."""
        return {key: self.sound(key) + adapter for key, adapter in self.adapters.items()}

    def sound_share(self) -> dict[str, float]:
        """|s f_a| / |v*| for each text encoder, v* averaged over its rows: how much of the word's size is the sound."""
        return {
            key: float(self.sound(key).norm(dim=-1).mean() / rows.norm(dim=-1).mean().clamp_min(1e-12))
            for key, rows in self.vectors.items()
        }

    def with_audio(
        self, audio_feature: Tensor, gain: float = 1.0, directions: dict[str, Tensor] | None = None
    ) -> AudioToken:
        """The word of another sound by the same adapter (Fig. 6b). `audio_feature`: (D,), unit norm.

        A word whose sound went through a bridge needs the `directions` of the new sound from the same bridge.
        """
        if audio_feature.shape != self.audio_feature.shape:
            raise TokenError(
                f"The sound's feature has {audio_feature.numel()} values",
                f"This word was made from a feature of {self.audio_feature.numel()} values",
                "Encode the sound with the audio encoder that the word was trained with",
            )
        if self.directions and directions is None:
            raise TokenError(
                "The sound in this word went through a bridge",
                "Another sound must go through the same bridge",
                "Connect the CLIP that the word was trained with",
            )
        feature = audio_feature.detach().clone().float()
        return replace(self, audio_feature=feature, gain=gain, directions=dict(directions or {}))

    def of_sound(
        self, audio_feature: Tensor, gain: float, directions: dict[str, Tensor] | None = None, norm: float | None = None
    ) -> AudioToken:
        """`with_audio` for a word that has a sound in it; raises `TokenError` for one that was trained without.

        `norm`: |f_a| of the new sound before it was normalised. A word of the scale `raw` uses it as s.
        """
        if not any(self.scales.values()):
            raise TokenError(
                "This word was trained without a sound",
                "Only a word that was trained with its sound can take another one",
                "Train it with `mode` set to sound_and_adapter",
            )
        token = self.with_audio(audio_feature, gain, directions)
        if json.loads(self.metadata.get("config", "{}")).get("scale") != "raw":
            return token
        if not norm:
            raise TokenError(
                "The audio encoder of the new sound only gives features normalised to length 1",
                "This word needs the length before normalisation (`scale` raw)",
                "Encode the sound with the audio encoder that the word was trained with",
            )
        return replace(token, scales=dict.fromkeys(token.scales, norm))

    def save(self, path: str | os.PathLike) -> None:
        """Write the token as a ComfyUI embedding, atomically. Raises `TokenError` if the folder cannot be written."""
        path = Path(path)
        vectors = {key: v.detach().to("cpu", torch.float32).clone().contiguous() for key, v in self.vectors.items()}
        header = {
            "format": FORMAT,
            "aai.audio_feature": _pack(self.audio_feature),
            "aai.adapters": json.dumps({key: _pack(a) for key, a in self.adapters.items()}),
            "aai.scales": json.dumps(self.scales),
            "aai.gain": repr(self.gain),
            "aai.metadata": json.dumps(self.metadata),
            "aai.directions": json.dumps({key: _pack(d) for key, d in self.directions.items()}),
        }
        write_atomically(
            path, lambda temporary: save_file(vectors, temporary, metadata=header), TokenError, "a few kilobytes"
        )

    def _check(self) -> None:
        """Raise, with one of the kinds that `load` catches, if parts do not fit each other: a stranger's file may say all."""
        rows = self.vectors
        if not rows or any(v.ndim != 2 or not len(v) or not bool(v.isfinite().all()) for v in rows.values()):
            raise ValueError("its vectors are no finite rows")
        if not bool(self.audio_feature.isfinite().all()) or self.audio_feature.ndim != 1:
            raise ValueError("its audio feature is no finite vector")
        json.loads(self.metadata.get("config", "{}")).get("scale")

    @classmethod
    def load(cls, path: str | os.PathLike) -> AudioToken:
        """Read a token that `save` wrote. Raises `TokenError` for any other file."""
        try:
            header = read_header(path)
            if header.get("format") != FORMAT:
                raise ValueError("it has no audio token header")
            adapters = {key: _unpack(text) for key, text in json.loads(header["aai.adapters"]).items()}
            token = cls(
                audio_feature=_unpack(header["aai.audio_feature"]),
                adapters=adapters,
                scales={key: float(s) for key, s in json.loads(header["aai.scales"]).items()},
                gain=float(header["aai.gain"]),
                metadata=json.loads(header["aai.metadata"]),
                directions={k: _unpack(d) for k, d in json.loads(header.get("aai.directions", "{}")).items()},
            )
            token._check()
            return token
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise TokenError(
                f"{Path(path).name} is not an audio token of this pack ({error})",
                "It must be a .safetensors file that Save Audio Token wrote",
                "An ordinary embedding needs no loader: write embedding:name in a prompt",
            ) from None


def audio_features(tokens: tuple[AudioToken, ...]) -> Tensor:
    """f_a of K tokens of one encoder, unit vectors (K, D)."""
    return torch.stack([token.audio_feature for token in tokens])


def _pack(tensor: Tensor) -> str:
    """float32 values and shape as text, bit for bit."""
    values = tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4")
    return json.dumps({"shape": list(tensor.shape), "float32": base64.b64encode(values.tobytes()).decode()})


def _unpack(text: str) -> Tensor:
    packed = json.loads(text)
    values = torch.frombuffer(bytearray(base64.b64decode(packed["float32"], validate=True)), dtype=torch.float32)
    return values.view(packed["shape"]).clone()
