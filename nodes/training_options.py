"""The optional knobs of Train Audio Token, and how they become settings."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt import config as settings

# The widgets that a preset leaves to the person.
ALWAYS_OWN = ("seed", "resolution", "prompt", "words")


def training_options() -> list:
    """Declarations of the optional inputs, in their order."""
    return [
        io.Combo.Input(
            "preset",
            options=[settings.AS_SET, *settings.PRESETS],
            default=settings.AS_SET,
            optional=True,
            tooltip="paper, quality, quick and style set everything but seed, resolution, prompt and words; "
            "as_set leaves it to you.",
        ),
        _choice(
            "mode", settings.MODES, "Learn with the sound, without it (plain textual inversion), or take it alone."
        ),
        _choice("scale", settings.SCALES, "Size of the sound in the word: of ordinary words, 1, or unnormalised."),
        _choice(
            "start",
            settings.STARTS,
            "Where the learned part starts: random, zero, at ordinary `words`, at the pictures (warm_start), or at that of "
            "many words which tells the pictures best (best_word).",
        ),
        io.String.Input(
            "words",
            default="",
            optional=True,
            tooltip="Ordinary words. start = words begins with them; best_word chooses from them, with commas between "
            "(empty: from a list of styles if `prompt` speaks of a style, else of things that sound).",
        ),
        _choice(
            "norm_control",
            settings.NORM_CONTROLS,
            "free lets the word grow; renorm keeps the size of ordinary words; dti learns its direction alone.",
        ),
        io.Int.Input(
            "vectors",
            default=1,
            min=1,
            max=settings.MAX_VECTORS,
            optional=True,
            tooltip="Rows that the word takes in a prompt. More hold more detail and bend less to the rest.",
        ),
        _choice(
            "timesteps", settings.TIMESTEPS, "Which noise levels are practised: all alike, evenly, or with a focus."
        ),
        _choice("prompts", settings.PROMPTS, "Your own sentence, or a list of neutral ones for objects or styles."),
        io.Boolean.Input("flip", default=False, optional=True, tooltip="Learn from the mirrored pictures as well."),
        io.Int.Input(
            "accumulation",
            default=1,
            min=1,
            max=64,
            optional=True,
            tooltip="Batches in a step: the calm of a larger batch without its memory.",
        ),
        io.Int.Input(
            "patience",
            default=0,
            min=0,
            max=1000,
            optional=True,
            tooltip="End after this many comparisons (one each 20 steps) without a better word; 0 goes to the end.",
        ),
        io.Mask.Input(
            "masks", optional=True, tooltip="What to learn from: one mask for all pictures, or one for each."
        ),
        io.Int.Input(
            "preview_every",
            default=0,
            min=0,
            max=20000,
            optional=True,
            tooltip="Draw a small picture of the word after this many steps; 0 shows the curve of the loss alone.",
        ),
        io.String.Input(
            "resume_from",
            default="",
            optional=True,
            tooltip="Name of a training in output/aai_training that this must go on from. Empty: it finds its own.",
        ),
        _choice("bridge", settings.BRIDGES, "What carries the sound into the space of words (Word from Sound)."),
        io.ClipVision.Input(
            "clip_vision",
            optional=True,
            tooltip="For start = warm_start: the picture tower that belongs to the CLIP, from Load CLIP Vision.",
        ),
    ]


def _choice(name: str, options: tuple[str, ...], tooltip: str):
    return io.Combo.Input(name, options=list(options), default=options[0], optional=True, tooltip=tooltip)


def read_settings(widgets: dict) -> settings.AdaptConfig:
    """The widgets' values as settings; a preset replaces all but seed, resolution and prompt."""
    values = dict(widgets)
    preset = values.pop("preset", settings.AS_SET)
    if preset != settings.AS_SET:
        values = {name: values[name] for name in ALWAYS_OWN if name in values}
    return settings.from_preset(preset, **values)
