"""Textual inversion files of other programs, in and out."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from aai_pack.aai_models.adapt.formats import export, load_any
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import TokenError
from aai_pack.tests.unit.test_token import make_token
from safetensors.torch import load_file, save_file

ROWS = {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280), "clip_h": torch.randn(2, 1024)}


def a1111(rows):
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": rows}, "name": "x", "step": 9}


def original(*rows):
    """As the programs of the paper's authors save it: a module of parameters."""
    parameters = torch.nn.ParameterDict({name: torch.nn.Parameter(r) for name, r in zip("*+", rows, strict=False)})
    return {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}


def bundled(**parts):
    """Inside a LoRA."""
    lora = {"lora_unet_x.lora_up.weight": torch.zeros(4, 2), "lora_unet_x.alpha": torch.tensor(1.0)}
    return lora | {f"bundle_emb.word.{name}": rows for name, rows in parts.items()}


@pytest.mark.parametrize(
    ("suffix", "content", "keys"),
    [
        (".safetensors", {"<x>": ROWS["clip_l"]}, ["clip_l"]),
        (".safetensors", {"emb_params": ROWS["clip_l"]}, ["clip_l"]),
        (".safetensors", {"emb_params": ROWS["clip_l"][0]}, ["clip_l"]),
        (".safetensors", {"emb_params": ROWS["clip_h"].half()}, ["clip_h"]),
        (".safetensors", {"clip_l": ROWS["clip_l"], "clip_g": ROWS["clip_g"]}, ["clip_g", "clip_l"]),
        (".pt", a1111(ROWS["clip_l"]), ["clip_l"]),
        (".pt", a1111(torch.nn.Parameter(ROWS["clip_l"])), ["clip_l"]),
        (".bin", {"<x>": ROWS["clip_l"]}, ["clip_l"]),
        (".pt", original(ROWS["clip_l"]), ["clip_l"]),
        (".pt", {**original(ROWS["clip_l"]), "step": np.int64(6100), "loss": np.float32(0.1)}, ["clip_l"]),
        (".pt", original(ROWS["clip_l"], torch.zeros(3, 768)), ["clip_l"]),
        (
            ".pt",
            a1111(ROWS["clip_l"]) | {"string_to_param": {"*": ROWS["clip_l"], "+": ROWS["clip_l"] + 1}},
            ["clip_l"],
        ),
        (".pt", [{"<x>": ROWS["clip_l"][:1]}, {"<y>": ROWS["clip_l"][1:], "z": ROWS["clip_g"]}], ["clip_g", "clip_l"]),
        (".safetensors", {"<x>": ROWS["clip_l"], "<y>": ROWS["clip_l"] + 1}, ["clip_l"]),
        (".SafeTensors", {"<x>": ROWS["clip_l"]}, ["clip_l"]),
        (".safetensors", bundled(**{"string_to_param.*": ROWS["clip_l"]}), ["clip_l"]),
        (".safetensors", bundled(clip_l=ROWS["clip_l"], clip_g=ROWS["clip_g"]), ["clip_g", "clip_l"]),
    ],
)
def test_known_forms(tmp_path, suffix, content, keys):
    path = tmp_path / f"x{suffix}"
    save_file(content, path) if suffix.lower() == ".safetensors" else torch.save(content, path)
    token = load_any(path)
    assert sorted(token.vectors) == keys and not any(token.scales.values())
    for key in keys:
        expected = ROWS[key][: token.vectors[key].shape[0]]
        assert torch.allclose(token.vectors[key], expected, atol=2e-3)
    with pytest.raises(TokenError, match="without a sound"):
        token.of_sound(torch.zeros(768), 1.0)


def test_our_own(tmp_path):
    make_token().save(tmp_path / "a.safetensors")
    token = load_any(tmp_path / "a.safetensors")
    assert torch.equal(token.audio_feature, make_token().audio_feature) and token.scales == {"clip_l": 0.4}


class Payload:
    def __reduce__(self):
        return (open, ("aai-payload-was-run", "w"))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("empty.safetensors", lambda p: p.write_bytes(b"")),
        ("text.pt", lambda p: p.write_text("hello")),
        ("code.pt", lambda p: p.write_bytes(pickle.dumps({"string_to_param": Payload()}))),
        ("gone.bin", lambda p: None),
        ("wide.safetensors", lambda p: save_file({"x": torch.zeros(1, 4096)}, p)),
        ("long.safetensors", lambda p: save_file({"x": torch.zeros(76, 768)}, p)),
        ("no-rows.safetensors", lambda p: save_file({"x": torch.zeros(0, 768)}, p)),
        ("nan.safetensors", lambda p: save_file({"x": torch.full((1, 768), torch.nan)}, p)),
        ("swapped.safetensors", lambda p: save_file({"clip_g": torch.zeros(1, 768)}, p)),
        ("uneven.safetensors", lambda p: save_file({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(2, 1280)}, p)),
        ("scalar.safetensors", lambda p: save_file({"x": torch.zeros(())}, p)),
        ("list.pt", lambda p: torch.save([1, 2], p)),
        ("numbers.pt", lambda p: torch.save({"string_to_param": {"*": 3}}, p)),
    ],
)
def test_hostile_and_other_files(tmp_path, name, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(TokenError, match=name):
        load_any(tmp_path / name)
    assert not (tmp_path / "aai-payload-was-run").exists()


@pytest.mark.parametrize("widths", [{"clip_l": 768}, {"clip_h": 1024}, {"clip_l": 768, "clip_g": 1280}])
def test_export(tmp_path, widths):
    token = make_token(widths)
    files = {path.name: load_file(path) for path in export(token, tmp_path / "new", "storm", "both")}
    a1111_file = files.pop("storm.a1111.safetensors")
    assert set(a1111_file) == ({"emb_params"} if len(widths) == 1 else set(widths))
    assert len(files) == len(widths)
    for name, content in files.items():
        ((key, rows),) = content.items()
        encoder = name.split(".")[2] if len(widths) > 1 else next(iter(widths))
        assert key == "<storm>" and torch.equal(rows, token.vectors[encoder])
    assert isinstance(load_any(tmp_path / "new" / "storm.a1111.safetensors"), AudioToken)
    with pytest.raises(TokenError, match="export is 'x'"):
        export(token, tmp_path, "storm", "x")


class TestDiffusers:
    """Our files in the program that they are for."""

    def load(self, tmp_path, tokens: dict[str, int], paths: list):
        transformers = pytest.importorskip("transformers")
        pytest.importorskip("diffusers")
        from diffusers.loaders import TextualInversionLoaderMixin
        from transformers import CLIPTextConfig, CLIPTextModel

        class Pipeline(TextualInversionLoaderMixin):
            """What diffusers' loader needs of a pipeline."""

            def __init__(self, width):
                words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "a</w>": 4, "b</w>": 5}
                (tmp_path / "vocab.json").write_text(json.dumps(words))
                (tmp_path / "merges.txt").write_text("#version: 0.2\n")
                self.tokenizer = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
                config = CLIPTextConfig(
                    vocab_size=8, hidden_size=width, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
                )
                self.text_encoder = CLIPTextModel(config)
                self.components = {}
                self.hf_device_map = None

        found = {}
        for (key, width), path in zip(tokens.items(), paths, strict=True):
            pipeline = Pipeline(width)
            pipeline.load_textual_inversion(str(path))
            ids = pipeline.tokenizer.convert_tokens_to_ids(["<rain>"] + [f"<rain>_{n}" for n in (1, 2)])
            rows = pipeline.text_encoder.get_input_embeddings().weight.detach()
            found[key] = rows[ids]
        return found

    @pytest.mark.parametrize("widths", [{"clip_l": 768}, {"clip_h": 1024}, {"clip_l": 768, "clip_g": 1280}], ids=str)
    def test_the_rows_arrive(self, tmp_path, widths):
        generator = torch.Generator().manual_seed(0)
        adapters = {key: torch.randn(3, width, generator=generator) for key, width in widths.items()}
        feature = torch.nn.functional.normalize(torch.ones(768), dim=-1)
        token = AudioToken(feature, adapters, dict.fromkeys(widths, 0.4))
        paths = export(token, tmp_path, "rain", "diffusers")
        found = self.load(tmp_path, widths, paths)
        for key, rows in token.vectors.items():
            assert torch.equal(found[key], rows), key
