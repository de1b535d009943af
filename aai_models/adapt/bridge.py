"""A word without training: a linear map from the text encoder's output features to its input token vectors.

f_a is aligned with CLIP's text feature; a prompt takes token rows. For every word of the vocabulary both are known, its
feature x and its row y, so that ridge regression gives W with y ~ W x (method: the pack's own, after the linear form of
Pic2Word and SEARLE). v* = s W f_a / |W f_a| is usable at once, and is where training can start. `phi` adds what a small
network finds beyond the linear map.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import TokenError
from ..files import read_tensors, write_atomically

FORMAT = "aai-bridge-3"
# Of the ridge, times the mean eigenvalue of the features' covariance.
STRENGTHS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
HELD_OUT = 0.05  # share of the words that take no part in the fit
MIN_WORDS = 64
FIGURES = ("cosine", "nearest", "disturbed")  # of words that a bridge has not seen, for each text encoder
SOUND_ERROR = 0.5  # distance of a sound's unit feature to its word's; the mean over sounds of the pocket world


@dataclass(frozen=True)
class Residual:
    """What phi adds to the ridge's output: a network of one hidden layer."""

    first: Tensor  # (D, hidden)
    bias: Tensor  # (hidden,)
    last: Tensor  # (hidden, width)

    def __call__(self, x: Tensor) -> Tensor:
        """Centred features (..., D) -> (..., width)."""
        return F.gelu(x @ self.first + self.bias) @ self.last


@dataclass(frozen=True)
class Bridge:
    """W, its centres, and how well it carries words that it has not seen."""

    weights: dict[str, Tensor]  # key -> (D, width), acts on unit features less their centre
    centres: dict[str, Tensor]  # mean row of each text encoder, key -> (width,)
    feature_centre: Tensor  # mean unit feature of the words, (D,)
    figures: dict[str, float]  # words, and for each encoder the held-out cosine and nearest-row share
    vocabulary: str = ""  # hash of the text encoder whose words these are
    residuals: dict[str, Residual] = field(default_factory=dict)  # phi: for each encoder; empty for the ridge alone

    @property
    def kind(self) -> str:
        """`ridge` or `phi`."""
        return "phi" if self.residuals else "ridge"

    def carry(self, feature: Tensor, centre: Tensor | None = None) -> dict[str, Tensor]:
        """A unit feature (D,) -> unit directions in the space of words, key -> (width,).

        `centre` (D,) is the mean unit feature of sounds, if the feature is a sound's. Features of sounds and of words have
        different means, so each is centred by its own mean; without `centre` the mean of words is used.
        Raises `TokenError` for a feature of another width.
        """
        if feature.shape[-1] != self.feature_centre.shape[-1]:
            raise TokenError(
                f"The sound's feature has {feature.shape[-1]} values",
                f"The bridge of this CLIP takes features of {self.feature_centre.shape[-1]} values",
                "Use an audio encoder that is aligned with this text encoder",
            )
        centred = F.normalize(feature.float(), dim=-1) - (self.feature_centre if centre is None else centre.float())
        return {key: F.normalize(self.rows(key, centred), dim=-1) for key in self.weights}

    def rows(self, key: str, centred: Tensor) -> Tensor:
        """Centred features (..., D) -> rows of one text encoder, (..., width), in their own size."""
        rows = centred @ self.weights[key] + self.centres[key]
        return rows + self.residuals[key](centred) if key in self.residuals else rows

    def text(self) -> list[str]:
        """A sentence for each text encoder: how well the bridge maps words that it was not fitted to."""
        lines = []
        for key in self.weights:
            line = (
                f"{key}: of {int(self.figures['words'])} words, those not used to build the bridge ({self.kind}) arrive "
                f"with {self._figures(f'{key}.', 'cosine ', ' nearest to themselves')}"
            )
            lines.append(
                f"{line} (the ridge alone: {self._figures(f'{key}.ridge_')})." if self.residuals else f"{line}."
            )
        return lines

    def _figures(self, prefix: str, what: str = "", whose: str = "") -> str:
        cosine, share, off = (self.figures[f"{prefix}{name}"] for name in FIGURES)
        return f"{what}{cosine:.2f}, {100 * share:.0f} %{whose}, and as far off as a sound is with {what}{off:.2f}"

    def save(self, path: Path) -> None:
        """Write the bridge; raises `TokenError`."""
        tensors = {f"weight.{key}": w for key, w in self.weights.items()}
        tensors |= {f"centre.{key}": c for key, c in self.centres.items()} | {"feature_centre": self.feature_centre}
        for key, residual in self.residuals.items():
            tensors |= {f"{name}.{key}": tensor for name, tensor in vars(residual).items()}
        tensors = {name: t.contiguous() for name, t in tensors.items()}
        header = {"format": FORMAT, "figures": json.dumps(self.figures), "vocabulary": self.vocabulary}
        write_atomically(
            path, lambda temporary: save_file(tensors, temporary, metadata=header), TokenError, "10 megabytes"
        )

    @classmethod
    def load(cls, path: Path, vocabulary: str = "") -> Bridge | None:
        """Read a bridge that `save` wrote for the text encoder `vocabulary`; None for anything else."""
        try:
            header, tensors = read_tensors(path)
            if header.get("format") != FORMAT or header.get("vocabulary") != vocabulary:
                return None
            weights = {n.removeprefix("weight."): t for n, t in tensors.items() if n.startswith("weight.")}
            bridge = cls(
                weights,
                {key: tensors[f"centre.{key}"] for key in weights},
                tensors["feature_centre"],
                json.loads(header["figures"]),
                vocabulary,
                {
                    key: Residual(*(tensors[f"{name}.{key}"] for name in ("first", "bias", "last")))
                    for key in weights
                    if f"first.{key}" in tensors
                },
            )
            bridge.text()  # what is missing or of another kind shows here, and not when the bridge is used
            carried = bridge.carry(torch.ones(bridge.feature_centre.shape))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            return None
        is_whole = carried and all(rows.ndim == 1 and bool(rows.isfinite().all()) for rows in carried.values())
        return bridge if is_whole else None


@dataclass(frozen=True)
class Split:
    """Training, validation and test words of a bridge; indices."""

    seen: Tensor
    choosing: Tensor
    judging: Tensor

    @classmethod
    def of(cls, count: int, seed: int = 0) -> Split:
        """Split `count` words; raises `TokenError` for fewer than `MIN_WORDS`."""
        if count < MIN_WORDS:
            raise TokenError(
                f"The vocabulary of this CLIP has {count} usable words",
                f"A bridge needs at least {MIN_WORDS}",
                "Use a CLIP with its whole vocabulary",
            )
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        held = max(16, int(HELD_OUT * count))
        return cls(order[held:], order[: held // 2], order[held // 2 : held])


class Ridges:
    """Ridge maps of every strength from one decomposition: (X^T X + lambda I)^-1 X^T Y, X and Y centred."""

    def __init__(self, x: Tensor):
        self.mean = x.mean(0)
        self._x = x - self.mean
        values, self._basis = torch.linalg.eigh(self._x.T @ self._x)
        self._values = values.clamp_min(0)

    def towards(self, y: Tensor) -> Callable[[float], Tensor]:
        """The map to `y` (N, width) as a function of lambda, in units of the mean eigenvalue of X^T X."""
        turned = self._basis.T @ (self._x.T @ (y - y.mean(0)))
        mean = self._values.mean().clamp_min(1e-12)
        return lambda strength: self._basis @ (turned / (self._values + strength * mean)[:, None])


def fit(features: Tensor, rows: dict[str, Tensor], seed: int = 0, vocabulary: str = "", error: float = 0.0) -> Bridge:
    """Fit a ridge bridge. `features` (N, D) of N words, `rows` key -> (N, width) of the same words; float32.

    `error`: how far what will be carried lies from a word's own unit feature, as a sound's always does; the strength is
    the one with the best cosine on choosing words that are so much disturbed. The final map uses all words, the figures
    come from the judging ones and from a map that has seen neither. Raises `TokenError` for fewer than 64 words.
    """
    # On the processor: not every device has float64.
    unit, split = F.normalize(features.cpu().double(), dim=-1), Split.of(features.shape[0], seed)
    part, whole = Ridges(unit[split.seen]), Ridges(unit)
    weights, centres, figures = {}, {}, {"words": float(features.shape[0])}
    generator = torch.Generator().manual_seed(seed + 1)
    asked = disturbed(unit[split.choosing], error, generator)
    for key, targets in rows.items():
        y = targets.cpu().double()
        seen, mean = part.towards(y[split.seen]), y[split.seen].mean(0)
        guesses = {s: (asked - part.mean) @ seen(s) + mean for s in STRENGTHS}
        cosines = {s: float(_cosine(guess, y[split.choosing])) for s, guess in guesses.items()}
        strength = max(cosines, key=lambda s: cosines[s])
        weights[key] = whole.towards(y)(strength).float().contiguous()
        centres[key] = y.mean(0).float()
        chosen = seen(strength)
        found = judge(lambda x, m=chosen, c=mean: (x - part.mean) @ m + c, unit, y, split.judging, error, seed)
        figures |= {f"{key}.{name}": value for name, value in found.items()} | {f"{key}.strength": strength}
    return Bridge(weights, centres, whole.mean.float(), figures, vocabulary)


def disturbed(unit: Tensor, error: float | Tensor, generator: torch.Generator) -> Tensor:
    """Unit features (n, D) turned in a drawn direction each until they lie `error` (n, 1) from where they were."""
    drawn = torch.randn(unit.shape, generator=generator, dtype=unit.dtype)
    drawn = F.normalize(drawn - (drawn * unit).sum(-1, keepdim=True) * unit, dim=-1)
    angle = 2 * torch.asin(torch.as_tensor(error, dtype=unit.dtype) / 2)
    return angle.cos() * unit + angle.sin() * drawn


def judge(carry: Callable[[Tensor], Tensor], unit: Tensor, rows: Tensor, words: Tensor, error: float, seed: int = 0):
    """`FIGURES` of a map from unit features (n, D) to rows (n, width) for the words of these indices.

    The mean cosine to their rows, the share whose nearest of all rows is the true one, and the cosine with `error`.
    """
    guesses = carry(unit[words])
    nearest = (F.normalize(guesses.float(), dim=-1) @ F.normalize(rows.float(), dim=-1).T).argmax(-1)
    moved = carry(disturbed(unit[words], error, torch.Generator().manual_seed(seed + 2)))
    found = (_cosine(guesses, rows[words]), (nearest == words).cpu().double().mean(), _cosine(moved, rows[words]))
    return dict(zip(FIGURES, map(float, found), strict=True))


def _cosine(guesses: Tensor, rows: Tensor) -> Tensor:
    return F.cosine_similarity(guesses, rows, dim=-1).mean()


def towards_words(direction: Tensor, rows: Tensor, share: float, temperature: float = 0.05) -> Tensor:
    """Unit directions (..., width) moved towards the words that they are nearest to.

    `rows` (N, width) are those of the vocabulary; their mean under a softmax of the cosines over `temperature` is where
    `share` 1 leads, as DeCap (Li et al. 2023) projects features onto a memory of text; `share` 0 gives `direction` itself.
    A sound's word never lies exactly where an ordinary word does, and what lies between words says little to the model.
    """
    if share == 0:
        return direction
    known = F.normalize(rows.float(), dim=-1)
    nearest = F.normalize((direction @ known.T / temperature).softmax(-1) @ known, dim=-1)
    return F.normalize((1 - share) * direction + share * nearest, dim=-1)


def nearest_words(vector: Tensor, rows: Tensor, words: list[str], count: int = 8) -> list[tuple[str, float]]:
    """The words whose rows are nearest to a vector (width,), with their cosine. `rows` (N, width)."""
    similarity = F.normalize(rows.float(), dim=-1) @ F.normalize(vector.float(), dim=-1)
    best = similarity.topk(min(count, len(words)))
    return [(words[i], float(value)) for value, i in zip(best.values, best.indices.tolist(), strict=True)]
