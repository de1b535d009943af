"""What an encoder tells besides unit features: their size, and the mean of many sounds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.align import __main__ as command_line
from aai_pack.aai_models.align.centre import MIN_SOUNDS, mean_feature, read_centre, write_centre
from aai_pack.aai_models.align.convert import convert
from aai_pack.aai_models.errors import CheckpointError, TokenError
from aai_pack.devtools.stand_in import write_cavt
from aai_pack.nodes.host.base.types import AudioFeature
from aai_pack.nodes.host.hear import encoders
from safetensors.torch import load_file
from scipy.io import wavfile


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cavt")
    write_cavt(folder / "cavt.pth")
    convert(folder / "cavt.pth", folder / "cavt.safetensors", "fp16", audio_only=True)
    return folder / "cavt.safetensors"


def write_tones(folder, count: int) -> None:
    folder.mkdir()
    time = torch.arange(4000) / 16000
    for number in range(count):
        sound = 0.5 * torch.sin(2 * torch.pi * (200 + 50 * number) * time)
        wavfile.write(folder / f"{number}.wav", 16000, sound.numpy())


def test_the_size_of_a_feature_is_that_before_it_was_normalised(encoder):
    with torch.inference_mode():
        hosted = encoders.load(str(encoder))
        sounds = torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(0))
        vectors, norms = hosted.hear(sounds, 16000)
        assert torch.equal(vectors, hosted.encode(sounds, 16000))
        pooled = hosted._pool(encoders.encoder_input(sounds, 16000))
    assert norms == pytest.approx(pooled.norm(dim=-1).tolist(), rel=1e-5) and min(norms) > 1
    assert torch.allclose(F.normalize(pooled, dim=-1), vectors, atol=1e-6)


def test_the_mean_travels_in_the_file(encoder, tmp_path, capsys):
    """The command writes it, the host reads it, the weights and the rest of the header stay."""
    before, path = load_file(encoder), tmp_path / "cavt.safetensors"
    path.write_bytes(encoder.read_bytes())
    assert encoders.load(str(path)).centre is None
    write_tones(tmp_path / "sounds", MIN_SOUNDS)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    assert command_line.main(["centre", str(path), str(tmp_path / "sounds")]) == 0
    assert f"mean of {MIN_SOUNDS} sounds" in capsys.readouterr().out
    hosted = encoders.load(str(path))
    assert hosted.centre.shape == (768,) and 0 < float(hosted.centre.norm()) <= 1.0001
    after = load_file(path)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_the_mean_is_the_mean(tmp_path):
    write_tones(tmp_path / "sounds", MIN_SOUNDS)
    features = iter(F.normalize(torch.randn(MIN_SOUNDS, 8, generator=torch.Generator().manual_seed(1)), dim=-1))
    given = []

    def encode(sound, rate):
        assert sound.shape[:2] == (1, 1) and rate == 16000
        given.append(next(features))
        return given[-1][None]

    mean, count = mean_feature(tmp_path / "sounds", encode)
    assert count == MIN_SOUNDS and torch.allclose(mean, torch.stack(given).mean(0))


def test_bad_input(tmp_path, encoder):
    write_tones(tmp_path / "sounds", 3)
    with pytest.raises(CheckpointError, match="holds 3 readable sounds"):
        mean_feature(tmp_path / "sounds", lambda sound, rate: torch.ones(1, 8))
    with pytest.raises(CheckpointError, match="no header to write into"):
        write_centre(tmp_path / "cavt.pth", torch.ones(8))
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    assert (
        read_centre(tmp_path / "broken.safetensors") is None and read_centre(tmp_path / "missing.safetensors") is None
    )


class TestGathering:
    def test_sounds_of_several_wires(self):
        one = AudioFeature(torch.ones(2, 4), "a", (0.0, 0.0), (3.0, 4.0), torch.ones(4))
        two = AudioFeature(torch.ones(1, 4), "a", (-9.0,), (5.0,), torch.ones(4))
        sounds = AudioFeature.joined([one, two])
        assert sounds.vectors.shape == (3, 4) and sounds.norms == (3.0, 4.0, 5.0) and sounds.lufs == (0.0, 0.0, -9.0)
        assert torch.equal(sounds.centre, one.centre) and sounds.encoder == "a"

    def test_sizes_are_known_of_all_or_of_none(self):
        features = [AudioFeature(torch.ones(1, 4), "a", (0.0,), (3.0,)), AudioFeature(torch.ones(1, 4), "a", (0.0,))]
        assert AudioFeature.joined(features).norms == ()

    def test_sounds_of_two_encoders(self):
        features = [AudioFeature(torch.ones(1, 4), name, (0.0,)) for name in ("b", "a")]
        with pytest.raises(TokenError, match="encoded by a and by b"):
            AudioFeature.joined(features)
