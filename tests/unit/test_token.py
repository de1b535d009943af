"""The audio token: its vectors, its file, and files that are not one."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.adapt import token as token_module
from aai_pack.aai_models.adapt.token import AudioToken, lift
from aai_pack.aai_models.errors import TokenError
from safetensors import safe_open
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]


def make_token(widths=None, seed: int = 0) -> AudioToken:
    generator = torch.Generator().manual_seed(seed)
    widths = widths or {"clip_l": 768}
    return AudioToken(
        audio_feature=torch.nn.functional.normalize(torch.randn(768, generator=generator), dim=-1),
        adapters={key: 0.01 * torch.randn(1, width, generator=generator) for key, width in widths.items()},
        scales={key: 0.4 + 0.1 * index for index, key in enumerate(widths)},
        metadata={"config": '{"steps": 3}'},
    )


def test_the_vector_is_sound_plus_adapter():
    token = make_token()
    assert torch.equal(token.vectors["clip_l"], 0.4 * token.audio_feature + token.adapters["clip_l"])


@pytest.mark.parametrize("width", [768, 1024, 1280])
def test_lift_keeps_norms_and_angles(width):
    pair = torch.randn(2, 768, generator=torch.Generator().manual_seed(1))
    lifted = torch.stack([lift(row, width) for row in pair])
    assert lifted.shape == (2, width)
    assert torch.allclose(lifted @ lifted.T, pair @ pair.T, rtol=1e-4, atol=1e-3)
    assert torch.equal(lifted[0], lift(pair[0], width)), "the same matrix on every call"


@pytest.mark.parametrize("width", [512, 1280])
def test_the_matrix_of_a_lift_is_made_once(width, monkeypatch):
    """Asked for in inference mode first, as loaders do; the figures are those of a matrix made anew."""
    made, qr = [], torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda *args: made.append(1) or qr(*args))
    monkeypatch.setattr(token_module, "_basis", lru_cache(token_module._basis.__wrapped__))
    token = make_token({"clip_l": 768, "clip_g": width})
    with torch.inference_mode():
        first = token.vectors
    assert all(torch.equal(first[key], rows) for _ in range(3) for key, rows in token.vectors.items())
    assert len(made) == 1
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(max(768, width), min(768, width), generator=generator, dtype=torch.float64)
    basis = qr(tall).Q.float()
    expected = token.audio_feature @ (basis.T if width > 768 else basis)
    assert torch.equal(lift(token.audio_feature, width), expected)
    feature = token.audio_feature.double().requires_grad_()
    lift(feature, width).sum().backward()  # of an inference tensor there would be no gradient
    assert feature.grad.isfinite().all()


@pytest.mark.parametrize("widths", [{"clip_l": 768}, {"clip_l": 768, "clip_g": 1280}, {"clip_h": 1024}])
def test_save_and_load(tmp_path, widths):
    token = make_token(widths)
    token.save(tmp_path / "a.safetensors")
    loaded = AudioToken.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.audio_feature, token.audio_feature)
    assert loaded.scales == token.scales and loaded.gain == token.gain and loaded.metadata == token.metadata
    for key in widths:
        assert torch.equal(loaded.adapters[key], token.adapters[key])
        assert torch.equal(loaded.vectors[key], token.vectors[key])
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(widths)  # the host's own loader takes every tensor for an embedding
        for key, width in widths.items():
            assert file.get_tensor(key).shape == (1, width) and torch.equal(file.get_tensor(key), token.vectors[key])


def test_another_sound_by_the_same_adapter():
    token, other = make_token(), make_token(seed=1)
    moved = token.with_audio(other.audio_feature, gain=0.5)
    assert torch.equal(moved.vectors["clip_l"], 0.5 * 0.4 * other.audio_feature + token.adapters["clip_l"])
    assert not torch.equal(moved.vectors["clip_l"], token.vectors["clip_l"])
    with pytest.raises(TokenError, match=r"512 values.*768 values"):
        token.with_audio(torch.zeros(512))


def write_ordinary_embedding(path):
    save_file({"clip_l": torch.zeros(1, 768)}, path)


def write_changed(path, **changes):
    make_token().save(path)
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {"clip_l": file.get_tensor("clip_l")}
    save_file(tensors, path, metadata={**header, **{f"aai.{key}": value for key, value in changes.items()}})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("hello"),
        lambda path: path.write_bytes(b"\xff" * 64),
        write_ordinary_embedding,
        lambda path: write_changed(path, audio_feature="nonsense"),
        lambda path: write_changed(path, audio_feature=json.dumps({"shape": [9], "float32": "AAAA"})),
        lambda path: write_changed(path, adapters="[]"),
        lambda path: write_changed(path, gain="loud"),
    ],
)
def test_other_files_are_refused(tmp_path, write):
    path = tmp_path / "x.safetensors"
    write(path)
    with pytest.raises(TokenError, match=r"x\.safetensors is not an audio token"):
        AudioToken.load(path)
    with pytest.raises(TokenError):
        AudioToken.load(tmp_path / "gone.safetensors")


def test_a_full_disk_keeps_the_file_that_was_there(tmp_path):
    """A limit on the size of files stands for the disk: writing fails in the middle, as it does there."""
    path = tmp_path / "a.safetensors"
    make_token().save(path)
    before = path.read_bytes()
    code = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from aai_models.adapt.token import AudioToken\n"
        "from aai_models.errors import TokenError\n"
        "token = AudioToken.load(sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: token.with_audio(-token.audio_feature).save(sys.argv[2])\n"
        "except TokenError as error: print(error)\n"
    )
    command = [sys.executable, "-I", "-c", code, str(ROOT), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Could not write a.safetensors" in done.stdout and "Free some space" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
