"""Real recordings: what they find in a library of drawings, our figures beside the references', and README's pictures.

Environment: AAI_RECORDINGS, a folder of ESC-10's recordings with one folder for each class; AAI_POCKET_RUNS, a folder of
trainings. Asked are those of the third fold, by an encoder that was trained as the pocket's, but on the first two folds
alone; where that folder has none, it is trained now (85 minutes).
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from devtools.report import DevError
from lab.__main__ import load_pack

from ..scoreboard.outside import runs_folder
from .bench_fbank import OPTIONS

FOLD = "3"
EACH = 10  # drawings of each thing
FOUND = 3  # pictures for each recording
SHOWN_ALONE = "rooster"  # whose sound is drawn large
SIDE, COLUMNS = 128, 2 * (1 + FOUND)


def _module(name: str):
    if "aai_pack" not in sys.modules:
        load_pack()
    return importlib.import_module(f"aai_pack.{name}")


def _recordings() -> dict[str, list[Path]]:
    """Recordings of the fold by the thing that is heard."""
    folder = os.environ.get("AAI_RECORDINGS")
    if not folder:
        raise DevError("AAI_RECORDINGS names no folder of ESC-10's recordings")
    classes = _module("pocket.world.names").ESC_10
    found = {}
    for path in sorted(Path(folder).glob(f"*/{FOLD}-*")):
        if path.parent.name in classes:
            found.setdefault(classes[path.parent.name], []).append(path)
    if not found:
        raise DevError(f"{folder} holds no recording of ESC-10's fold {FOLD}")
    return found


def _encoder():
    """The encoder that has not heard the fold, behind the interface, and its image tower."""
    sounds = _module("lab.training.sounds")
    config, recordings = sounds.SoundConfig(folds=(1, 2)), Path(os.environ["AAI_RECORDINGS"])
    model = sounds.trained_ear(config, runs_folder(), recordings)
    return _module("aai_models.align.encoders").CAVTEncoder(model), model


def _library(folder: Path, model):
    """Drawings of every thing of the pocket world, named by it, and their index."""
    scenes, names = _module("pocket.world.scene"), _module("pocket.world.names")
    library = _module("aai_models.align.library")
    rng = np.random.default_rng(0)
    for thing in names.THINGS:
        for number in range(EACH):
            picture = scenes.draw(scenes.random_scene(rng, [thing]))[0]
            Image.fromarray(picture).save(folder / f"{thing}-{number}.png")
    index = library.Library.open(folder, "pocket")
    with torch.inference_mode():
        library.build(index, model.encode_image)
    return index


def _ask(encoder, index, path: Path):
    """The pictures that a recording finds, and its sound (1, C, T) with its rate in Hz."""
    waveform, rate = _module("aai_models.audio.decode").decode_audio(path, duration=10.24)
    return index.query(encoder.encode(waveform[None], rate)[0], FOUND), (waveform[None], rate)


def _beside_references(paths: list[Path]) -> list[list[str]]:
    """The largest difference of the spectrogram to Kaldi's and of the loudness to pyloudnorm's."""
    import pyloudnorm
    from torchaudio.compliance.kaldi import fbank

    resample = _module("aai_models.audio.resample").resample
    kaldi_fbank = _module("aai_models.audio.fbank").kaldi_fbank
    integrated = _module("aai_models.audio.loudness").integrated
    spectra, levels = [], []
    for path in paths:
        waveform, rate = _module("aai_models.audio.decode").decode_audio(path)
        low = resample(waveform.mean(dim=0, keepdim=True), rate, 16000)
        theirs = fbank(low, sample_frequency=16000, frame_shift=10, **OPTIONS)
        spectra.append(float((kaldi_fbank(low)[0] - theirs).abs().max()))
        # Whole steps of 200 ms: pyloudnorm counts half a block more as a full one, the standard does not.
        waveform = waveform[:, : waveform.shape[1] * 5 // rate * rate // 5]
        meter = pyloudnorm.Meter(rate, filter_class="DeMan")
        theirs = meter.integrated_loudness(waveform.T.double().numpy())
        levels.append(abs(float(integrated(waveform[None], rate)) - theirs))
    count = str(len(paths))
    return [
        ["largest difference of the spectrogram to Kaldi's", count, f"{max(spectra):.1e}"],
        ["largest difference of the loudness to pyloudnorm's (LU)", count, f"{max(levels):.1e}"],
    ]


def measure(version: str) -> dict:
    """How many of the found pictures show what is heard; `version` does not matter, no host is asked."""
    recordings, (encoder, model) = _recordings(), _encoder()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        index = _library(Path(folder), model)
        for thing, paths in recordings.items():
            found = [match.path.name.split("-")[0] for path in paths for match in _ask(encoder, index, path)[0]]
            rows.append([f"found by {thing}", str(len(paths)), f"{np.mean([name == thing for name in found]):.2f}"])
        rows.append(["found, mean", "", f"{np.mean([float(row[2]) for row in rows]):.2f}"])
        chance = 1 / (len(index) // EACH)
    return {
        "title": f"hear: recordings that the encoder never heard ask {len(index)} drawings; found: how many of {FOUND} show it",
        "columns": ["", "recordings", "figure"],
        "rows": [*rows, *_beside_references([path for paths in recordings.values() for path in paths])],
        "goal": f"found: above chance, {chance:.2f}; differences: under 1e-3 and 0.1 LU",
    }


def pictures(version: str, folder: Path) -> list[Path]:
    """sound.png, one recording drawn, and found.png, the first recording of each class with what it finds."""
    recordings, (encoder, model) = _recordings(), _encoder()
    draw, overview = _module("aai_models.draw"), _module("aai_models.audio.overview")
    tiles, captions, large = [], [], None
    with tempfile.TemporaryDirectory() as place:
        index = _library(Path(place), model)
        for thing, paths in recordings.items():
            matches, sound = _ask(encoder, index, paths[0])
            (wave,) = overview.draw_overview(*sound, 380, 380)
            tiles += [wave, *(Image.open(match.path).convert("RGB") for match in matches)]
            captions += [f"sound: {thing}"]
            captions += [f"{match.similarity:.2f} {match.path.name.split('-')[0]}" for match in matches]
            if large is None or thing == SHOWN_ALONE:
                (large,) = overview.draw_overview(*sound)
    draw.contact_sheet(tiles, captions, COLUMNS, SIDE).save(folder / "found.png", optimize=True)
    large.save(folder / "sound.png", optimize=True)
    return [folder / "found.png", folder / "sound.png"]
