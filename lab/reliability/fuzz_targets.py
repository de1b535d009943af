"""What reads files and texts of strangers, as the nodes call it, and the errors that a person is shown."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ...aai_models.adapt import checkpoint, formats
from ...aai_models.adapt.bridge import Bridge
from ...aai_models.align import convert, library
from ...aai_models.align.alignment import read_alignment
from ...aai_models.align.cavt_mae import CAVTMAE, encoder_tensors
from ...aai_models.align.centre import read_centre
from ...aai_models.align.foreign_files import explain_file
from ...aai_models.align.images import image_input, open_picture
from ...aai_models.audio.decode import decode_part, probe
from ...aai_models.audio.fbank import encoder_input
from ...aai_models.audio.heard import require_heard
from ...aai_models.audio.loudness import integrated
from ...aai_models.errors import CheckpointError, ExplainedError
from ...aai_models.inject import batch, templates, words
from ...aai_models.inject.manifest import Manifest

OURS = (ExplainedError,)


def read_sound(path: Path) -> None:
    probe(path)
    part = decode_part(path, 0.0, 10.24)
    assert bool(part.waveform.ndim == 2) and part.sample_rate > 0
    require_heard(part.waveform[None], part.sample_rate)
    encoder_input(part.waveform[None].float(), part.sample_rate)
    integrated(part.waveform[None].float(), part.sample_rate)


def read_picture(path: Path) -> None:
    assert image_input(open_picture(path, 224)).shape == (3, 224, 224)


def read_encoder(path: Path) -> None:
    """As the node does it, with the method's own reader in place of the host's."""
    read_centre(path), read_alignment(path)
    if explain_file(path) is None:
        CAVTMAE.from_state_dict(encoder_tensors(convert.read_state_dict(path)))


def read_token(path: Path) -> None:
    token = formats.load_any(path)
    assert all(bool(rows.isfinite().all()) for rows in token.vectors.values()), "vectors that are no numbers"
    token.sound_share()
    try:
        other = torch.nn.functional.normalize(torch.ones(token.audio_feature.numel()), dim=0)
        token.of_sound(other, 1.0, dict(token.directions), 1.0)
    finally:
        token.save(path.with_name("again.safetensors"))


def read_manifest(path: Path) -> None:
    manifest = Manifest(path.parent)
    manifest.last_words("sound")
    jobs = batch.plan_jobs({Path("/photos/a.png"): "1"}, {"dog": "w"}, [1.0], {}, {"dog": ""})
    manifest.claim(manifest.place(jobs)[0])
    manifest.save()


def read_library(path: Path) -> None:
    (path.parent / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(path.parent / "pictures" / "a.png")
    found = library.Library.open(path.parent / "pictures", "encoder", path)
    library.build(found, lambda pixels: torch.zeros(len(pixels), 2), path)
    found.query(torch.tensor([1.0, 0.0]))


def read_bridge(path: Path) -> None:
    bridge = Bridge.load(path, "v")
    if bridge is not None:
        bridge.carry(torch.nn.functional.normalize(torch.ones(16), dim=0))
        bridge.text()


def read_training(path: Path) -> None:
    checkpoint.read({"steps": "2"}, path)


def read_text(text: str) -> None:
    """Everything that takes a line which a person writes."""
    first = None
    for read in (
        lambda: words.find_words(text),
        lambda: words.near_misses(text),
        lambda: words.require_words(text, {1}),
        lambda: words.parse_word_values(text, "words"),
        lambda: templates.build_prompts(next(iter(templates.USES)), text),
        lambda: templates.without_words(text),
        lambda: batch.parse_scales(text),
        lambda: words.normalise(text),
    ):
        try:
            read()
        except OURS as error:
            first = first or error
    if first:
        raise first


TARGETS = {
    "sounds": (read_sound, OURS),
    "pictures": (read_picture, (OSError, ValueError)),  # what its callers turn into a sentence
    "encoders": (read_encoder, (CheckpointError,)),
    "tokens": (read_token, OURS),
    "manifests": (read_manifest, OURS),
    "libraries": (read_library, OURS),
    "bridges": (read_bridge, OURS),
    "trainings": (read_training, OURS),
    "texts": (read_text, OURS),
}
