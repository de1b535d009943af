"""A small corpus from the pack's own generators: sounds, pictures, models, words, records. Needs the pack as `aai_pack`."""

from __future__ import annotations

import json
import os
import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ...aai_models.adapt import formats
from ...aai_models.adapt.bridge import fit
from ...aai_models.adapt.token import AudioToken
from ...aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from ...aai_models.align.library import Library
from ...pocket.world import scene, sounds

RATE = 16000
CODECS = {
    "wav": ("pcm_s16le", "s16"),
    "flac": ("flac", "s16"),
    "ogg": ("libopus", "flt"),
    "mp3": ("libmp3lame", "fltp"),
    "m4a": ("aac", "fltp"),
    "aiff": ("pcm_s16be", "s16"),
    "webm": ("libopus", "flt"),
    "mkv": ("pcm_s16le", "s16"),
}
PICTURES = ("png", "jpg", "webp", "gif", "bmp", "tif")


def write(folder: Path) -> None:
    """Fill `folder` with a folder for each kind of input."""
    for kind, fill in KINDS.items():
        (folder / kind).mkdir(parents=True)
        fill(folder / kind)


def _sounds(folder: Path) -> None:
    wave = sounds.synthesise("dog", seconds=0.64).astype(np.float32)
    for suffix, (codec, layout) in CODECS.items():
        if codec not in av.codecs_available:  # in every build there are some
            continue
        rate = 48000 if "opus" in codec else RATE
        with av.open(str(folder / f"dog.{suffix}"), "w") as container:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            resampler = av.AudioResampler(layout, "mono", rate, 960 if "opus" in codec else 1024)
            frame = av.AudioFrame.from_ndarray(wave[None], "flt", "mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))


def _pictures(folder: Path) -> None:
    picture = Image.fromarray(scene.draw(scene.plain_scene("dog"))[0]).resize((64, 64))
    for suffix in PICTURES:
        picture.save(folder / f"dog.{suffix}")
    picture.convert("P").save(folder / "palette.png")
    Image.fromarray(np.asarray(picture, np.float32)[..., 0] / 255).save(folder / "float.tif")


def _encoders(folder: Path) -> None:
    config = CAVTMAEConfig(dim=32, patch=64, depth=1, mlp_dim=32, audio_tokens=32, image_tokens=9)
    tensors = {name: torch.randn_like(tensor) * 0.1 for name, tensor in CAVTMAE(config).state_dict().items()}
    header = {"aai.aligned_with": "clip_l", "aai.audio_centre": json.dumps([0.0] * 32)}
    save_file(tensors, folder / "encoder.safetensors", metadata=header)
    torch.save(tensors, folder / "encoder.pth")
    torch.save({"audio_branch.x": tensors, "text_branch.y": 1}, folder / "clap.pt")


def _tokens(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    feature = torch.nn.functional.normalize(torch.randn(768, generator=generator), dim=0)
    adapters = {"clip_l": torch.randn(2, 768, generator=generator) / 30}
    token = AudioToken(feature, adapters, {"clip_l": 0.4}, metadata={"config": "{}"}, directions={"clip_l": feature})
    token.save(folder / "word.safetensors")
    formats.export(token, folder, "word", "both")
    torch.save({"string_to_param": torch.nn.ParameterDict({"*": adapters["clip_l"]})}, folder / "original.pt")
    for path in folder.iterdir():  # one suffix is enough for a kind
        if path.suffix not in (".safetensors", ".pt", ".bin"):
            path.unlink()
    (folder / "code.pt").write_bytes(pickle.dumps(_Code()))


class _Code:
    """A file with code in it, which nothing may run."""

    def __reduce__(self):
        return os.system, ("touch CODE_WAS_RUN",)


def _records(folder: Path) -> None:
    entry = {"photo": "a.png", "source": "/photos", "sound": "dog", "scale": 1.0, "place": "p", "identity": "i"}
    entry |= {"size": 3, "time": 1, "word": "w", "sha256": "0"}
    record = {"format": 2, "pictures": {"a__dog_1.00.png": entry, "b__dog_1.00.png": entry}}
    (folder / "manifest.json").write_text(json.dumps(record))


def _indexes(folder: Path) -> None:
    pictures = folder / "pictures"
    pictures.mkdir()
    library = Library(
        pictures, "encoder", ["a.png", "b.png"], torch.zeros(2, 2, dtype=torch.int64), torch.eye(2).half()
    )
    library.save(folder / "index.safetensors")


def _bridges(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(96, 16, generator=generator), dim=-1)
    fit(features, {"clip_l": torch.randn(96, 8, generator=generator)}, vocabulary="v").save(folder / "b.safetensors")


def _trainings(folder: Path) -> None:
    names = ("adapter.clip_l", "best.clip_l", "optimizer.clip_l.exp_avg")
    record = {"losses": [1.0, 0.5], "held_out_losses": [[1, 0.5]], "best_step": 1, "report": None, "best": {}}
    header = {"format": "aai-training-2", "inputs": json.dumps({"steps": "2"}), "record": json.dumps(record)}
    save_file({name: torch.zeros(1, 768) for name in names}, folder / "t.safetensors", metadata=header)


KINDS = {
    "sounds": _sounds,
    "pictures": _pictures,
    "encoders": _encoders,
    "tokens": _tokens,
    "manifests": _records,
    "libraries": _indexes,
    "bridges": _bridges,
    "trainings": _trainings,
}
