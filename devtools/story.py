"""What the demo's page tells, in which order, and in which words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """A part of the page and the example that it shows."""

    title: str
    text: str
    example: str


# Sounds of the first part, each with the place that its prompt names.
GALLERY = (
    ("rooster", "on a meadow"),
    ("cat", "in the snow"),
    ("train", "in a desert"),
    ("fire", "in a forest"),
    ("helicopter", "in a city"),
    ("clock", "in a room"),
)
GALLERY_EXAMPLE = "11 Four pictures at once"
LEARNED_EXAMPLE = "12 New thing"  # the page shows how its word is learned
CHAPTERS = (
    Chapter(
        "A word is learned",
        "Nobody ever told these models what a frog is called. Its croak and four pictures become a word A* in a few "
        "seconds; below it is drawn every few steps, always from the same noise. Then the word goes into the snow, where "
        "no picture of it was.",
        "12 New thing",
    ),
    Chapter(
        "Into a picture that is there",
        "A beach, and the same beach with the sound of a fire in it. What both prompts share stays; the third picture shows "
        "what changed, the fourth where the word acted.",
        "07 Sound in a scene",
    ),
    Chapter(
        "From soft to loud",
        "How much of the word there is follows the loudness of its sound.",
        "13 From soft to loud",
    ),
    Chapter(
        "A photo in the style of a sound",
        "A bell was bound to a style by three mosaics. It is what happens to this photo.",
        "09 Photo in the style of a sound",
    ),
    Chapter(
        "Another sound in the same word",
        "The word of one recording with another recording of its kind, without training.",
        "05 Another sound",
    ),
    Chapter(
        "A sound looks for its pictures",
        "Twenty drawings, and those that the sound finds most like itself: references, if you have none.",
        "04 Sound finds pictures",
    ),
    Chapter(
        "Breathing with the sound",
        "Frame by frame, the word grows and fades with the recording.",
        "08 Breathing with the sound",
    ),
)
