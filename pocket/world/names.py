"""What there is in the pocket world, and under which words."""

from __future__ import annotations

COLOURS = {
    "red": (214, 45, 45),
    "yellow": (244, 200, 36),
    "green": (38, 146, 70),
    "blue": (40, 92, 214),
    "purple": (138, 58, 186),
}
# Name of a place -> how it is told after a thing, and before one.
PLACES = {
    "beach": ("on a beach", "a beach"),
    "forest": ("in a forest", "a forest"),
    "city": ("in a city", "a city"),
    "desert": ("in a desert", "a desert"),
    "snow": ("in the snow", "snow"),
    "meadow": ("on a meadow", "a meadow"),
    "room": ("in a room", "a room"),
    "night": ("at night", "the night"),
}
# Name of a style -> the noun of "a ... of a dog".
STYLES = {"flat": "photo", "sketch": "sketch", "mosaic": "mosaic", "dots": "poster"}
SIZES = ("small", "big")
SIDES = ("left", "right")

# Things with a sound and a word; the first ten are those of ESC-10.
NAMED = (
    *("dog", "rain", "waves", "baby", "clock", "sneeze", "helicopter", "chainsaw", "rooster", "fire"),
    *("bell", "drum", "bird", "cat", "train", "bee", "wind", "thunder"),
)
UNNAMED = ("frog", "kettle", "guitar")  # their pictures are seen in training, but never under a word
UNSEEN = ("phone", "siren", "boat")  # never seen in training
THINGS = NAMED + UNNAMED + UNSEEN
# Things whose look follows their loudness by density or height; all others look bigger, as if nearer.
NATURE = ("rain", "fire", "waves", "wind", "thunder")

# Words that a person may use for a thing or a place; they are given the meaning of the word on the right.
SYNONYMS = {
    **{
        "puppy": "dog",
        "hound": "dog",
        "sea": "waves",
        "ocean": "waves",
        "wave": "waves",
        "infant": "baby",
        "child": "baby",
    },
    **{"watch": "clock", "chopper": "helicopter", "cock": "rooster", "chicken": "rooster", "flames": "fire"},
    **{
        "campfire": "fire",
        "flame": "fire",
        "kitten": "cat",
        "locomotive": "train",
        "storm": "wind",
        "lightning": "thunder",
    },
    **{"drums": "drum", "birds": "bird", "bells": "bell", "shower": "rain", "raining": "rain", "woods": "forest"},
    **{"town": "city", "street": "city", "field": "meadow", "grass": "meadow", "winter": "snow", "dunes": "desert"},
    **{
        "shore": "beach",
        "coast": "beach",
        "drawing": "sketch",
        "pencil": "sketch",
        "pixel": "mosaic",
        "dotted": "poster",
    },
    **{"large": "big", "huge": "big", "little": "small", "tiny": "small", "violet": "purple", "picture": "picture"},
}

# ESC-50's labels of the ten classes -> our names.
ESC_10 = {
    **{"dog": "dog", "rain": "rain", "sea_waves": "waves", "crying_baby": "baby", "clock_tick": "clock"},
    **{"sneezing": "sneeze", "helicopter": "helicopter", "chainsaw": "chainsaw", "rooster": "rooster"},
    **{"crackling_fire": "fire", "sneeze": "sneeze"},
}
