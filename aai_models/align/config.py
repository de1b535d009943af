"""What a training of CAVT-MAE is decided by: frozen dataclasses, saved inside every checkpoint, and three presets."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from ..errors import TrainingError
from .cavt_mae import CAVTMAEConfig
from .momentum import READINGS

TINY_TOWER = CAVTMAEConfig(dim=192, patch=32, depth=2, mlp_dim=768, audio_tokens=128, image_tokens=49)


@dataclass(frozen=True)
class AlignConfig:
    """Everything that changes the outcome of a training. Sources: paper 3.1 and 4.1, CAV-MAE's VGGSound recipe, ALBEF."""

    preset: str = "paper"  # where these values come from
    # Objective, Eq. 1
    momentum_target: str = "visual_shared"  # what the teacher averages: `momentum.READINGS`
    momentum: float = 0.995  # m of the teacher's average (paper 4.1)
    alpha: float = 0.4  # weight of the pseudo-targets (ALBEF; the paper does not say)
    alpha_ramp: float = 1.0  # epochs over which alpha grows from 0 (ALBEF)
    tau: float = 0.05  # temperature (CAV-MAE)
    multi_positive: bool = False  # clips of one text are all positives of that text
    # Optimiser: AdamW
    batch: int = 120  # clips of one step, over all processes; all of them are each other's negatives
    epochs: int = 10
    lr: float = 5e-5
    schedule: str = "halve"  # halve (after each epoch from the second), cosine (to 0), constant
    warmup: float = 0.0  # epochs of linear warm-up
    weight_decay: float = 0.02  # paper 4.1
    beta1: float = 0.95  # CAV-MAE
    beta2: float = 0.999
    clip_norm: float = 0.0  # largest norm of the gradient; 0: any
    precision: str = "auto"  # fp32, bf16, fp16; auto: bf16 where a GPU has it, else fp32
    # What is heard and seen
    short_clip: str = "pad_reference"  # policies of `encoder_input`
    long_clip: str = "first"
    channels: str = "first"
    level: str = "as_recorded"
    noise: bool = True  # uniform noise of a random strength on the spectrogram, then a roll in time (CAV-MAE)
    mask_mel: int = 0  # SpecAugment: at most so many mel channels
    mask_frames: int = 0  # and so many frames are blanked
    frame: str = "random"  # which picture of a clip a step sees: random, or first (the best)
    test_frame: str = "best"  # which one an evaluation sees: best (by CLIP), or middle (CAV-MAE's protocol)
    prompt: str = "label"  # the text of a label: `texts.PROMPTS`
    # Other
    seed: int = 0
    tower: CAVTMAEConfig = field(default_factory=CAVTMAEConfig)  # sizes, where training begins without a checkpoint

    def __post_init__(self):
        choices = {
            "momentum_target": READINGS,
            "schedule": ("halve", "cosine", "constant"),
            "precision": ("auto", "fp32", "bf16", "fp16"),
            "frame": ("random", "first"),
            "test_frame": ("best", "middle"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise TrainingError(f"{name} is {getattr(self, name)!r}", f"Known are {', '.join(known)}")
        ranges = (
            ("momentum", 0, 1),
            ("alpha", 0, 1),
            ("tau", 1e-4, 10),
            ("batch", 2, 10**6),
            ("epochs", 1, 10**6),
            ("lr", 0, 10),
        )
        for name, low, high in ranges:
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise TrainingError(f"{name} is {value}", f"It must lie between {low:g} and {high:g}")

    def sound_policies(self) -> dict[str, str]:
        """Keyword arguments of `encoder_input`."""
        return {name: getattr(self, name) for name in ("short_clip", "long_clip", "channels", "level")}

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> AlignConfig:
        """Raises `TrainingError` for settings of another version, by name; one that is lacking has its default."""
        values = json.loads(text)
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise TrainingError(
                f"The file was trained with settings that this version does not know: {', '.join(unknown)}",
                "Files of this version and of older ones can be read",
                "Update the pack",
            )
        values["tower"] = CAVTMAEConfig(**values.get("tower", {}))
        return cls(**values)

    def changed(self, settings: list[str]) -> AlignConfig:
        """A copy with `name=value` settings, as the command line gives them. Raises `TrainingError` for unknown ones."""
        values = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            place = self.tower if name.startswith("tower.") else self
            key = name.removeprefix("tower.")
            known = {f.name for f in dataclasses.fields(place)} - {"tower", "preset"}
            if not equals or key not in known:
                raise TrainingError(f"There is no setting {setting!r}", f"Known are {', '.join(sorted(known))}")
            values[name] = _parse(name, text, type(getattr(place, key)))
        tower = {name[6:]: value for name, value in values.items() if name.startswith("tower.")}
        rest = {name: value for name, value in values.items() if not name.startswith("tower.")}
        return dataclasses.replace(self, tower=dataclasses.replace(self.tower, **tower), **rest)


def _parse(name: str, text: str, kind: type):
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise TrainingError(f"{name} is {text!r}", f"It must be a value of type {kind.__name__}") from None


PRESETS = {
    # As the paper says, and where it says nothing as the work that it cites does.
    "paper": AlignConfig(),
    # What measurements and common sense prefer: both towers' averages, labels that are known to collide, no level.
    "quality": AlignConfig(
        preset="quality",
        momentum_target="both",
        multi_positive=True,
        schedule="cosine",
        warmup=0.5,
        clip_norm=1.0,
        short_clip="tile",
        channels="mean",
        level="normalised",
        prompt="ensemble",
    ),
    # A small tower that a processor trains on some hundred clips within minutes.
    "tiny": AlignConfig(
        preset="tiny",
        momentum_target="both",
        momentum=0.95,  # 0.995 averages over 200 steps: more than such a training has
        multi_positive=True,
        batch=40,
        epochs=40,
        lr=1e-3,
        schedule="cosine",
        warmup=2.0,
        clip_norm=1.0,
        alpha_ramp=5.0,
        short_clip="tile",
        channels="mean",
        level="normalised",
        mask_mel=24,
        mask_frames=96,
        tower=TINY_TOWER,
    ),
}


def differences(before: AlignConfig, now: AlignConfig) -> list[str]:
    """`name was x and is y` for every field that differs."""
    pairs = [(f.name, getattr(before, f.name), getattr(now, f.name)) for f in dataclasses.fields(before)]
    return [f"{name} was {old} and is {new}" for name, old, new in pairs if old != new]
