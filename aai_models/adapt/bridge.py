"""A word without training: a linear map from where the text encoder's features come out to where its words go in.

f_a is aligned with CLIP's text feature; a prompt takes token rows. For every word of the vocabulary both are known, its
feature x and its row y, so that ridge regression gives W with y ~ W x (method: the pack's own, after the linear form of
Pic2Word and SEARLE). v* = s W f_a / |W f_a| is usable at once, and is where training can start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import TokenError
from ..files import write_atomically

FORMAT = "aai-bridge-1"
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the ridge, times the mean eigenvalue of the features' covariance
HELD_OUT = 0.05  # share of the words that choose the strength and give the report
MIN_WORDS = 64


@dataclass(frozen=True)
class Bridge:
    """W, its centres, and how well it carries words that it has not seen."""

    weights: dict[str, Tensor]  # key -> (D, width), acts on unit features less their centre
    centres: dict[str, Tensor]  # mean row of each text encoder, key -> (width,)
    feature_centre: Tensor  # mean unit feature of the words, (D,)
    figures: dict[str, float]  # words, and for each encoder the held-out cosine and nearest-row share

    def carry(self, feature: Tensor) -> dict[str, Tensor]:
        """A unit feature (D,) -> unit directions in the space of words, key -> (width,).

        Raises `TokenError` for a feature of another width.
        """
        if feature.shape[-1] != self.feature_centre.shape[-1]:
            raise TokenError(
                f"The sound's feature has {feature.shape[-1]} values",
                f"The bridge of this CLIP starts from {self.feature_centre.shape[-1]}",
                "Use an encoder that is aligned with this text encoder",
            )
        centred = F.normalize(feature.float(), dim=-1) - self.feature_centre
        return {key: F.normalize(centred @ w + self.centres[key], dim=-1) for key, w in self.weights.items()}

    def save(self, path: Path) -> None:
        """Write the bridge; raises `TokenError`."""
        tensors = {f"weight.{key}": w for key, w in self.weights.items()}
        tensors |= {f"centre.{key}": c for key, c in self.centres.items()} | {"feature_centre": self.feature_centre}
        tensors = {name: t.contiguous() for name, t in tensors.items()}
        header = {"format": FORMAT, "figures": json.dumps(self.figures)}
        write_atomically(
            path, lambda temporary: save_file(tensors, temporary, metadata=header), TokenError, "10 megabytes"
        )

    @classmethod
    def load(cls, path: Path) -> Bridge | None:
        """Read a bridge that `save` wrote; None for anything else, which is then made anew."""
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            if header.get("format") != FORMAT:
                return None
            weights = {n.removeprefix("weight."): t for n, t in tensors.items() if n.startswith("weight.")}
            centres = {key: tensors[f"centre.{key}"] for key in weights}
            return cls(weights, centres, tensors["feature_centre"], json.loads(header["figures"]))
        except (OSError, SafetensorError, ValueError, KeyError):
            return None


def fit(features: Tensor, rows: dict[str, Tensor], seed: int = 0, error: float = 0.0) -> Bridge:
    """Fit a bridge. `features` (N, D) of N words, `rows` key -> (N, width) of the same words; float32.

    `error`: how far what will be carried lies from a word's own unit feature (a sound's never equals it). The strength is
    then chosen for features that are so much disturbed; 0 chooses for words themselves.

    The strength of the ridge is the one with the best held-out cosine; the final map uses all words, the figures come
    from the held-out ones. Raises `TokenError` for fewer than 64 words.
    """
    count = features.shape[0]
    if count < MIN_WORDS:
        raise TokenError(
            f"There are {count} words to learn from",
            f"A bridge needs {MIN_WORDS}",
            "Use a CLIP with its whole vocabulary",
        )
    unit = F.normalize(features.double(), dim=-1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held, seen = order[: max(16, int(HELD_OUT * count))], order[max(16, int(HELD_OUT * count)) :]
    weights, centres, figures = {}, {}, {"words": float(count)}
    noise = torch.randn(unit.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=unit.dtype)
    asked = unit + error * F.normalize(noise, dim=-1)
    for key, targets in rows.items():
        y = targets.double()
        tried = (_judge(unit, asked, y, seen, held, strength) for strength in STRENGTHS)
        strength = max(tried, key=lambda found: found[1])[0]
        _, cosine, nearest = _judge(unit, unit, y, seen, held, strength)
        weights[key] = _solve(unit - unit.mean(0), y - y.mean(0), strength).float().contiguous()
        centres[key] = y.mean(0).float()
        figures |= {f"{key}.cosine": cosine, f"{key}.nearest": nearest, f"{key}.strength": strength}
    return Bridge(weights, centres, unit.mean(0).float(), figures)


def _judge(
    x: Tensor, asked: Tensor, y: Tensor, seen: Tensor, held: Tensor, strength: float
) -> tuple[float, float, float]:
    """(strength, cosine to the true row, share of held-out words whose nearest row of all is the true one)."""
    x_mean, y_mean = x[seen].mean(0), y[seen].mean(0)
    guess = (F.normalize(asked[held], dim=-1) - x_mean) @ _solve(x[seen] - x_mean, y[seen] - y_mean, strength) + y_mean
    cosine = F.cosine_similarity(guess, y[held], dim=-1).mean()
    nearest = (F.normalize(guess, dim=-1) @ F.normalize(y, dim=-1).T).argmax(-1)
    return strength, float(cosine), float((nearest == held).double().mean())


def _solve(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """Ridge: (X^T X + lambda I)^-1 X^T Y with lambda = `strength` times the mean eigenvalue of X^T X."""
    gram = x.T @ x
    ridge = strength * gram.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(gram + ridge * torch.eye(gram.shape[0], dtype=gram.dtype), x.T @ y)


def nearest_words(vector: Tensor, rows: Tensor, words: list[str], count: int = 8) -> list[tuple[str, float]]:
    """The words whose rows are nearest to a vector (width,), with their cosine. `rows` (N, width)."""
    similarity = F.normalize(rows.float(), dim=-1) @ F.normalize(vector.float(), dim=-1)
    best = similarity.topk(min(count, len(words)))
    return [(words[i], float(value)) for value, i in zip(best.values, best.indices.tolist(), strict=True)]
