"""What a node shows of its result: pictures and a player on the node itself, beside what it puts out."""

from __future__ import annotations

import logging

from comfy_api.latest import ui
from torch import Tensor

MOST_PICTURES = 64  # of a batch that are drawn on a node
log = logging.getLogger(__name__)


def pictures(images: Tensor) -> dict:
    """A batch (N, H, W, C) in 0..1, to be drawn on the node; at most the first 64.

    They lie in ComfyUI's temporary folder. Where that cannot be written there is no picture on the node, and the result
    stays what it is.
    """
    return _written(lambda: ui.PreviewImage(images[:MOST_PICTURES]).as_dict())


def sound(audio: dict) -> dict:
    """An AUDIO, to be played on the node."""
    return _written(lambda: ui.PreviewAudio(audio).as_dict())


def _written(write) -> dict:
    try:
        return write()
    except OSError as error:
        log.warning("Nothing is shown on the node, because ComfyUI's temporary folder cannot be written: %s", error)
        return {}
