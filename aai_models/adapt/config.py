"""Settings of one training run, and the named sets of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import TrainingError

PLACEHOLDER = "<A*>"

MODES = ("sound_and_adapter", "adapter_only", "sound_only")
SCALES = ("clip_norm", "unit", "raw")
STARTS = ("random", "zero", "words", "warm_start", "best_word")
NORM_CONTROLS = ("free", "renorm", "dti")
TIMESTEPS = ("uniform", "stratified", "composition", "middle")
PROMPTS = ("own", "object", "style")
BRIDGES = ("none", "ridge", "phi", "auto", "labels")
MAX_VECTORS = 8


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of one training run; saved inside the token."""

    steps: int = 500  # optimiser steps
    learning_rate: float = 5e-3  # of AdamW, constant; with `dti` the angle of a step in radians
    batch_size: int = 1  # samples in one evaluation of the loss
    seed: int = 0  # of the adapter's start, the timesteps and the noise
    prompt: str = "a photo of <A*>"  # the paper's; <A*> is where the word stands
    resolution: int = 512  # side to which reference pictures are cropped, in pixels
    evaluate_every: int = 20  # steps between two evaluations on the held-out samples
    held_out: int = 4  # fixed (timestep, noise) pairs that choose the best token
    mode: str = "sound_and_adapter"  # the paper; `adapter_only` is textual inversion (Fig. 5, row 3)
    scale: str = "clip_norm"  # s: median norm of the vocabulary, 1, or that of the feature before it is normalised
    start: str = "random"  # f_Adapter at step 0
    words: str = ""  # ordinary words that `start` = `words` begins with, or those that `best_word` chooses from
    norm_control: str = "free"  # how |v*| is controlled after each step
    vectors: int = 1  # rows that stand for A*
    timesteps: str = "uniform"  # how t is drawn; the paper's is uniform
    prompts: str = "own"  # `prompt`, or a list of neutral sentences
    flip: bool = False  # learn from the mirrored pictures as well
    accumulation: int = 1  # evaluations of the loss in one optimiser step
    patience: int = 0  # evaluations without a better word after which training ends; 0: never
    smoothing: float = 0.5  # weight of earlier evaluations in the average that chooses the best token
    bridge: str = "none"  # what maps f_a to the space of words; `auto`: labels where the encoder knows words

    def validate(self) -> None:
        """Raise `TrainingError` for settings that cannot work."""
        policies: dict[str, tuple[str, ...]] = {
            "mode": MODES,
            "scale": SCALES,
            "start": STARTS,
            "norm_control": NORM_CONTROLS,
        }
        policies |= {"timesteps": TIMESTEPS, "prompts": PROMPTS, "bridge": BRIDGES}
        for name, known in policies.items():
            require_policy(name, getattr(self, name), known)
        for name in ("steps", "batch_size", "evaluate_every", "held_out", "accumulation"):
            _require_range(name, getattr(self, name), 1, math.inf)
        _require_range("vectors", self.vectors, 1, MAX_VECTORS)
        if self.prompts == "own" and PLACEHOLDER not in self.prompt:
            raise TrainingError(
                f"The training prompt {self.prompt!r} has no {PLACEHOLDER}",
                f"{PLACEHOLDER} marks the place of the word",
                f'Write for instance "a photo of {PLACEHOLDER}"',
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise TrainingError(
                f"The learning rate is {self.learning_rate}", "It must be a positive number", "0.005 is a good start"
            )
        if self.start == "words" and not self.words.strip():
            raise TrainingError(
                "`start` is set to words, but `words` is empty",
                "`words` must hold at least one ordinary word",
                "Write for instance thunder, or set `start` to random",
            )


def require_policy(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise `TrainingError` unless `value` is one of the `known` values of the policy `name`."""
    if value not in known:
        raise TrainingError(f"{name} is {value!r}", f"It must be one of {', '.join(known)}", "Choose one of them")


def _require_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        limit = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise TrainingError(f"{name} is {value}", f"It must be {limit}", "Correct the number")


AS_SET = "as_set"
PRESETS = {
    # The paper's reading: unit feature, free norm, one sentence, uniform timesteps.
    "paper": AdaptConfig(steps=500, learning_rate=5e-3, scale="unit", start="random", norm_control="free"),
    # Starts from the bridged sound and learns only a direction, with everything that lowers the variance of a step.
    "quality": AdaptConfig(
        **{"steps": 400, "learning_rate": 1e-2, "batch_size": 2, "start": "zero", "norm_control": "dti"},
        **{"timesteps": "stratified", "flip": True, "patience": 8, "held_out": 8, "bridge": "auto"},
    ),
    # For a quick first result.
    "quick": AdaptConfig(
        **{"steps": 100, "learning_rate": 2e-2, "start": "zero", "norm_control": "dti", "evaluate_every": 10},
        **{"timesteps": "stratified", "patience": 5, "bridge": "auto"},
    ),
    # A style begins at an ordinary word, and does not leave it: slow, short, in calm steps.
    "style": AdaptConfig(
        **{"steps": 100, "learning_rate": 5e-3, "batch_size": 4, "start": "best_word", "timesteps": "stratified"},
        **{"evaluate_every": 25, "bridge": "auto"},
    ),
}


def from_preset(name: str, **own) -> AdaptConfig:
    """The settings of a preset with the caller's seed, prompt, resolution...; `own` alone for `as_set`."""
    require_policy("preset", name, (AS_SET, *PRESETS))
    return AdaptConfig(**own) if name == AS_SET else replace(PRESETS[name], **own)
