"""The optional knobs of Train Audio Token, and how they become settings."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt import config as settings
from .host.base.schema import advanced

# The widgets that a preset leaves to the person.
ALWAYS_OWN = ("seed", "resolution", "prompt", "words")


def training_options() -> list:
    """Declarations of the optional inputs, in their order."""
    preset, *rest = [
        io.Combo.Input(
            "preset",
            options=[settings.AS_SET, *settings.PRESETS],
            default=settings.AS_SET,
            optional=True,
            tooltip=(
                "paper, quality, quick and style choose every setting except seed, resolution, prompt "
                "and words. as_set uses the settings below."
            ),
        ),
        _choice(
            "mode",
            settings.MODES,
            (
                "sound_and_adapter learns with the sound, adapter_only without it (plain "
                "textual inversion), or use the sound alone, untrained."
            ),
        ),
        _choice(
            "scale",
            settings.SCALES,
            ("How large the sound is in the word: as large as ordinary words, of length 1, or as the encoder gave it."),
        ),
        _choice(
            "start",
            settings.STARTS,
            (
                "Where learning starts: random, zero, at your `words`, near the pictures (warm_start), or at the "
                "word that describes the pictures best (best_word)."
            ),
        ),
        io.String.Input(
            "words",
            default="",
            optional=True,
            tooltip=(
                "For start = words: the words to start at. For best_word: the words to choose from, "
                "separated by commas (empty: a list of styles if `prompt` is about a style, otherwise a "
                "list of things that make sounds)."
            ),
        ),
        _choice(
            "norm_control",
            settings.NORM_CONTROLS,
            (
                "free lets the word's vector grow; renorm keeps it as long as ordinary words; dti learns only "
                "its direction."
            ),
        ),
        io.Int.Input(
            "vectors",
            default=1,
            min=1,
            max=settings.MAX_VECTORS,
            optional=True,
            tooltip=(
                "How many tokens the word takes in a prompt. More hold more detail, but mix less well "
                "with the rest of the prompt."
            ),
        ),
        _choice(
            "timesteps",
            settings.TIMESTEPS,
            (
                "Which noise levels are trained: uniform at random, stratified "
                "evenly, composition mostly high noise (the layout), middle mostly medium noise."
            ),
        ),
        _choice(
            "prompts", settings.PROMPTS, ("Learn in your own `prompt`, or in many neutral ones for objects or styles.")
        ),
        io.Boolean.Input("flip", default=False, optional=True, tooltip="Also learn from mirrored pictures."),
        io.Int.Input(
            "accumulation",
            default=1,
            min=1,
            max=64,
            optional=True,
            tooltip="Batches in each step: as steady as a larger batch_size, in less memory, but slower.",
        ),
        io.Int.Input(
            "patience",
            default=0,
            min=0,
            max=1000,
            optional=True,
            tooltip="Stop early after this many checks (one every 20 steps by default) without a better word; "
            "0 never stops early.",
        ),
        io.Mask.Input(
            "masks",
            optional=True,
            tooltip="Learn only from the white areas: one mask for all pictures, or one for each.",
        ),
        io.Int.Input(
            "preview_every",
            default=0,
            min=0,
            max=20000,
            optional=True,
            tooltip="Draw a small picture with the word every so many steps; 0 shows only the loss curve.",
        ),
        io.String.Input(
            "resume_from",
            default="",
            optional=True,
            tooltip=(
                "The training in output/aai_training to continue, by name. Empty: an interrupted run of "
                "the same settings is found by itself."
            ),
        ),
        _choice(
            "bridge",
            settings.BRIDGES,
            (
                "Where learning starts: see Word from Sound. auto: at what the sound is heard as, or by "
                "ridge where an encoder that fits the CLIP is not sure."
            ),
        ),
        io.ClipVision.Input(
            "clip_vision",
            optional=True,
            tooltip="For start = warm_start: the CLIP Vision model that belongs to the CLIP, from Load CLIP Vision.",
        ),
    ]
    return [preset, *advanced(rest)]


def _choice(name: str, options: tuple[str, ...], tooltip: str):
    return io.Combo.Input(name, options=list(options), default=options[0], optional=True, tooltip=tooltip)


def read_settings(widgets: dict) -> settings.AdaptConfig:
    """The widgets' values as settings; a preset replaces all but seed, resolution and prompt."""
    values = dict(widgets)
    preset = values.pop("preset", settings.AS_SET)
    if preset != settings.AS_SET:
        values = {name: values[name] for name in ALWAYS_OWN if name in values}
    return settings.from_preset(preset, **values)
