"""A small file out of ImageBind's: its audio part and the texts beside it, a quarter of the whole or less."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ..errors import CheckpointError
from ..files import write_atomically
from .convert import DTYPES, file_sha256
from .imagebind import ImageBindAudio, ImageBindEncoder, require_hearing
from .imagebind_files import SCALE, published_name, read_matching, read_trunk
from .imagebind_text import MASK, TEXT, has_text
from .imagebind_text import SCALE as TEXT_SCALE


def convert_imagebind(
    source: str | Path, target: str | Path, dtype: str = "fp16", audio_only: bool = False
) -> dict[str, str]:
    """Write the audio part of an ImageBind file, and its texts unless `audio_only`, to `target` (.safetensors), atomically
    -> the metadata in its header. Names are the published ones.

    `dtype`: fp16 or fp32; both scales stay fp32. Raises `CheckpointError` for files that `read_trunk` refuses.
    """
    source, target = Path(source), Path(target)
    config, own = read_trunk(source)
    with torch.inference_mode():
        audio = ImageBindAudio.from_tensors({name: tensor.float() for name, tensor in own.items()}, config)
        require_hearing(ImageBindEncoder(audio).encode)
    tensors = {published_name(name): tensor.to(DTYPES[dtype]) for name, tensor in own.items()}
    tensors[published_name(SCALE)] = torch.tensor(config.log_scale)
    with_texts = has_text(source) and not audio_only
    if with_texts:
        texts = read_matching(source, TEXT)
        tensors |= {name: tensor.to(DTYPES[dtype]) for name, tensor in texts.items() if name != MASK}
        tensors |= {name: tensor.float() for name, tensor in read_matching(source, TEXT_SCALE).items()}
    metadata = {
        "source": source.name,
        "sha256": file_sha256(source),
        "variant": "imagebind-audio-text" if with_texts else "imagebind-audio",
        "dtype": dtype,
        "licence": "CC BY-NC-SA 4.0",
    }
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    write_atomically(target, lambda path: save_file(tensors, path, metadata=metadata), CheckpointError, "the encoder")
    return metadata
