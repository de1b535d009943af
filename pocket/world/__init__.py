"""Scenes that can be drawn and heard: things, places, colours, styles, captions and sounds."""
