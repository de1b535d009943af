"""What the pocket nodes' menus offer. A list of its own, so that the pocket world is not imported to show a menu."""

from __future__ import annotations

SHIPPED = "came with the pack"
NOTHING = "nothing"
THINGS = (
    *("dog", "rain", "waves", "baby", "clock", "sneeze", "helicopter", "chainsaw", "rooster", "fire"),
    *("bell", "drum", "bird", "cat", "train", "bee", "wind", "thunder"),
    *("frog", "kettle", "guitar", "phone", "siren", "boat"),
)
PLACES = ("beach", "forest", "city", "desert", "snow", "meadow", "room", "night")
COLOURS = ("red", "yellow", "green", "blue", "purple")
STYLES = ("photo", "sketch", "mosaic", "poster")
SIDES = ("middle", "left", "right")
