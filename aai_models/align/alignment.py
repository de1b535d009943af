"""What an encoder's sounds are aligned with, as its file's header says: only such sounds may cross a bridge to words."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError

from ..files import read_header

HEADER = "aai.aligned_with"
TEXT_ENCODER = "aai.text_encoder"  # the text encoder that it was trained towards, with its hash
CLIP_L = "clip_l"
CLIP_H = "clip_h"  # OpenCLIP ViT-H/14, its pictures and texts: ImageBind's space, where no bridge starts
CLIP_L_ROWS = "clip_l_rows"  # rows of CLIP-L's token table: AudioToken's sounds are words and need no bridge
KNOWN = (CLIP_L,)
CLIP_L_WIDTH = 768
# Version 0.1.0 named the texts of a training at the end of "data": CLIP, width, hash; hashed words and texts that were
# brought to another width have other names.
OF_VERSION_0_1_0 = re.compile(rf".*; CLIP {CLIP_L_WIDTH} [0-9a-f]{{16}}")


def alignment_of(header: dict[str, str]) -> str:
    """ "clip_l" where a header says that the sounds lie among CLIP-L's text features, else ""."""
    if HEADER in header:
        return header[HEADER] if header[HEADER] in KNOWN else ""
    return CLIP_L if "config" in header and OF_VERSION_0_1_0.fullmatch(header.get("data", "")) else ""


def read_alignment(path: str | Path) -> str:
    """`alignment_of` a file; "" for one that is no .safetensors file or cannot be read."""
    if Path(path).suffix != ".safetensors":
        return ""
    try:
        return alignment_of(read_header(path))
    except (OSError, SafetensorError):
        return ""
