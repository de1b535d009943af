"""A start at an ordinary word: the one with which the frozen model has the lowest loss on the pictures.

Source: Diffusion Classifier (A. Li et al., 2023): Eq. 6's loss under each candidate, with the same noise for all, and those
that fall behind are dropped early. Its logarithm is averaged here: a style shows where there is most noise and the loss is
a hundredth of what it is elsewhere, and every level shall count alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..errors import TrainingError
from .config import AdaptConfig
from .objective import NoisySample

ROUNDS, LOOKS = 3, 4  # rounds, and samples with which each word is compared in one round
KEPT = 3  # one of this many words goes on to the next round; the last three all do
STYLES = (
    *("photo", "painting", "drawing", "sketch", "watercolor", "engraving", "etching", "woodcut", "illustration"),
    *("cartoon", "comic", "anime", "poster", "collage", "mosaic", "graffiti", "fresco", "tapestry", "embroidery"),
    *("sculpture", "origami", "pixel", "neon", "noir", "vintage", "abstract", "minimalist", "impressionist", "surreal"),
    *("cubist", "gothic", "baroque", "blueprint", "polaroid"),
)
THINGS = (
    *("thing", "dog", "cat", "bird", "rooster", "cow", "horse", "sheep", "frog", "bee", "crow", "wolf", "baby", "man"),
    *("woman", "crowd", "rain", "thunder", "lightning", "wind", "waves", "river", "waterfall", "fire", "snow", "storm"),
    *("forest", "city", "bell", "clock", "train", "car", "motorcycle", "airplane", "helicopter", "boat", "engine"),
    *("chainsaw", "drum", "guitar", "piano", "violin", "trumpet", "flute", "church", "machine"),
)


def candidates(config: AdaptConfig, heard: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The words to choose from: those in `config.words`, with commas between; else what pictures are called that a prompt
    speaks of as a style; else what was `heard`, or what sounds are made by."""
    own = tuple(dict.fromkeys(word for word in (part.strip() for part in config.words.split(",")) if word))
    if own:
        return own
    if config.prompts == "style" or "style" in config.prompt:
        return STYLES
    return heard or THINGS


def choose(
    words: Sequence[str],
    loss: Callable[[str, NoisySample], float],
    samples: Sequence[NoisySample],
    on_look: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[str, float]]:
    """The last words left and the mean logarithm of their loss, least first.

    `samples`: `ROUNDS * LOOKS` of them in the order of their noise. `on_look` may raise to stop. Raises `TrainingError` where
    the loss of every word is no number.
    """
    left, logs = list(words), {word: [] for word in words}
    sizes = [len(left)]
    while len(sizes) < ROUNDS:
        sizes.append(max(min(KEPT, sizes[-1]), sizes[-1] // KEPT))
    done, total = 0, LOOKS * sum(sizes)
    for number in range(ROUNDS):
        left = left[: sizes[number]]
        for word in left:
            for sample in samples[number::ROUNDS]:
                logs[word].append(_logarithm(loss(word, sample)))
                done += 1
                on_look(done, total)
        left.sort(key=lambda word: sum(logs[word]))
    found = [(word, sum(logs[word]) / len(logs[word])) for word in left]
    if not math.isfinite(found[0][1]):
        raise TrainingError(
            "The loss is NaN or infinite for every word",
            "`start` is set to best_word, which chooses the word with the lowest loss",
            "Load the model in fp32 or bf16, or choose another start",
        )
    return found


def _logarithm(loss: float) -> float:
    return math.log(max(loss, 1e-12)) if math.isfinite(loss) else math.inf
