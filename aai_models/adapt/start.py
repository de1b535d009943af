"""Where training starts: the token at step 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import TrainingError
from .config import AdaptConfig
from .token import AudioToken


@dataclass(frozen=True)
class WordStatistics:
    """What the vocabulary of one text encoder looks like."""

    norm: float  # median norm of its word rows
    std: float  # standard deviation of their coordinates
    width: int  # values in a row
    mean_norm: float = 0.0  # mean norm of its word rows; 0 takes the median


def initial_token(
    audio_feature: Tensor,
    words: dict[str, WordStatistics],
    config: AdaptConfig,
    directions: Mapping[str, Tensor] | None = None,
    rows: Mapping[str, Tensor] | None = None,
    norm: float | None = None,
) -> AudioToken:
    """The token before the first step.

    `audio_feature` (D,), unit norm. `directions`: the bridged sound, key -> (width,), unit norm. `rows`: the rows of
    the words to begin with, key -> (m, width); vector i starts at row i modulo m. `norm`: |f_a|
    before it was normalised, for the scale `raw`. Raises `TrainingError` where something that `config` asks for is missing.
    """
    generator = torch.Generator().manual_seed(config.seed)
    adapters = {key: _adapter(key, word, config, generator, rows or {}) for key, word in sorted(words.items())}
    if config.mode == "sound_only":
        adapters = {key: torch.zeros_like(a) for key, a in adapters.items()}
    scales = {key: _scale(word, norm, config) for key, word in words.items()}
    return AudioToken(
        audio_feature.detach().clone().float().cpu(),
        adapters,
        scales,
        directions={key: d.detach().clone().float().cpu() for key, d in (directions or {}).items()},
    )


def _scale(word: WordStatistics, norm: float | None, config: AdaptConfig) -> float:
    if config.mode == "adapter_only":
        return 0.0
    if config.scale != "raw":
        return {"clip_norm": word.norm, "unit": 1.0}[config.scale]
    if not norm:
        raise TrainingError(
            "This audio encoder only gives features normalised to length 1",
            "`scale` is set to raw, which needs the length before normalisation",
            "Set `scale` to clip_norm, or encode the sound with a CAVT-MAE",
        )
    return norm


def _adapter(key: str, word: WordStatistics, config: AdaptConfig, generator, rows: Mapping[str, Tensor]) -> Tensor:
    # Drawn for every start, so that the start of one encoder does not change the draw of the next.
    drawn = torch.randn(config.vectors, word.width, generator=generator) * word.std
    if config.start == "random":
        return drawn
    # Without sound or noise v* is 0 and has no direction. `warm_start` and `best_word` set it later.
    if config.start in ("zero", "warm_start", "best_word"):
        return drawn if config.mode == "adapter_only" else torch.zeros_like(drawn)
    if key not in rows or not rows[key].shape[0]:
        raise TrainingError(
            f"There are no vectors for the text encoder {key} to start from",
            f"`start` is set to {config.start}",
            "Write ordinary words into `words`, or set `start` to random",
        )
    return _spread(rows[key], config.vectors)


def at_word(start: AudioToken, rows: Mapping[str, Tensor], vectors: int) -> AudioToken:
    """`start` with an adapter that makes its v* ordinary words: row i is that of `rows`, key -> (m, width), i modulo m."""
    adapters = {key: _spread(rows[key], vectors) - start.sound(key) for key in start.adapters}
    return replace(start, adapters=adapters)


def _spread(rows: Tensor, count: int) -> Tensor:
    return rows.detach().float().cpu()[torch.arange(count) % rows.shape[0]].clone()
