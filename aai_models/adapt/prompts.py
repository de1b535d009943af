"""Sentences that a word is learned in.

The neutral sentences follow what Textual Inversion describes: plain descriptions that name the thing, or its style, and
nothing else, so that only the thing's looks go into the word.
"""

from __future__ import annotations

from .config import PLACEHOLDER, AdaptConfig, require_policy

OBJECT_FRAMES = (
    *("a photo of a {}", "the photo of a {}", "a photo of the {}", "a photo of my {}", "a photo of one {}"),
    *(f"a photo of {article} {look} {{}}" for article in ("a", "the") for look in ("clean", "dirty", "nice", "cool")),
    *(f"a photo of {article} {look} {{}}" for article in ("a", "the") for look in ("small", "large")),
    *(f"a {look} photo of {article} {{}}" for look in ("dark", "bright") for article in ("a", "the")),
    *("a good photo of a {}", "a close-up photo of the {}", "a cropped photo of the {}"),
    *("a rendering of a {}", "a rendition of the {}", "a rendition of a {}"),
)
STYLE_FRAMES = tuple(
    f"{article} {work} in the style of {{}}"
    for work in ("painting", "rendering", "picture", "rendition", "cropped painting", "close-up painting")
    for article in ("a", "the")
) + tuple(
    f"a {look} painting in the style of {{}}" for look in ("clean", "dirty", "dark", "bright", "cool", "nice", "good")
)


def training_prompts(config: AdaptConfig) -> tuple[str, ...]:
    """The sentences of a run, each with the placeholder; raises `TrainingError` for an unknown list."""
    require_policy("prompts", config.prompts, ("own", "object", "style"))
    if config.prompts == "own":
        return (config.prompt,)
    frames = OBJECT_FRAMES if config.prompts == "object" else STYLE_FRAMES
    return tuple(frame.format(PLACEHOLDER) for frame in frames)
