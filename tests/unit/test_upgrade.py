"""Files that version 0.1.0 wrote are read by this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.adapt import checkpoint, formats
from aai_pack.aai_models.adapt.bridge import Bridge
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.align.library import Library
from aai_pack.aai_models.files import read_header, read_tensors
from aai_pack.aai_models.inject.batch import plan_jobs
from aai_pack.aai_models.inject.manifest import Manifest
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests" / "fixtures" / "0.1.0"
PROMPTS = json.loads((OLD / "prompts.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((ROOT / "tests" / "host" / "schema_snapshot.json").read_text(encoding="utf-8"))
WORDS = sorted([*OLD.glob("embeddings/*"), *OLD.glob("aai_tokens/*")])


@pytest.mark.parametrize("path", WORDS, ids=lambda path: path.stem)
def test_words(path, tmp_path):
    """The vectors are those of the file, another sound can be put in, and what is saved again is the same."""
    token, stored = AudioToken.load(path), load_file(path)
    assert torch.equal(token.vectors["clip_l"], stored["clip_l"])
    assert token.metadata and token.audio_feature.shape == (768,)
    assert torch.equal(formats.load_any(path).vectors["clip_l"], stored["clip_l"])
    token.save(tmp_path / "again.safetensors")
    again = AudioToken.load(tmp_path / "again.safetensors")
    assert again.metadata == token.metadata and torch.equal(again.vectors["clip_l"], token.vectors["clip_l"])
    if not token.directions:
        other = token.with_audio(-token.audio_feature)
        assert not torch.equal(other.vectors["clip_l"], token.vectors["clip_l"])


@pytest.mark.parametrize("path", sorted(OLD.glob("aai_training/*")), ids=lambda path: path.stem)
def test_trainings(path):
    inputs = json.loads(read_header(path)["inputs"])
    tensors, record = checkpoint.read(inputs, path)
    assert checkpoint.identity(inputs) == path.stem, "the same inputs have the same name today"
    assert tensors and len(record["losses"]) in (4, 25)


def test_the_bridge():
    bridge = Bridge.load(OLD / "bridge.safetensors", "0123456789abcdef")
    assert bridge is not None
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 12, generator=generator)
    rows = features @ torch.randn(12, 16, generator=generator) * 0.05
    carried = bridge.carry(torch.nn.functional.normalize(features[0], dim=0))["clip_l"]
    assert torch.cosine_similarity(carried.flatten(), rows[0], dim=0) > 0.9
    assert Bridge.load(OLD / "bridge.safetensors", "of another CLIP") is None


def test_the_index_of_a_library(tmp_path):
    header, tensors = read_tensors(OLD / "library.safetensors")
    library = Library.open(tmp_path, header["encoder"], OLD / "library.safetensors")
    assert sorted(library.paths) == ["a.png", "b.png"] and torch.equal(library.features, tensors["features"])
    assert len(library.query(library.features[0].float(), k=2)) == 2


def test_a_batch(tmp_path):
    """Its record is taken over, its pictures stay as they are, and new ones of the same names get a number."""
    folder = shutil.copytree(OLD / "batch", tmp_path / "batch")
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert len(before) == 2
    photos = {tmp_path / f"{name}.png": "1 2" for name in "ab"}
    manifest = Manifest(folder)
    jobs = manifest.place(plan_jobs(photos, {"old-frog": "word"}, [1.0], {}))
    assert [job.file for job in jobs] == ["a-2__old-frog__x1.00.png", "b-2__old-frog__x1.00.png"]
    for job in jobs:
        job = manifest.claim(job)
        Image.new("RGB", (8, 8)).save(folder / job.file)
        manifest.add(job)
    assert {name: (folder / name).read_bytes() for name in before} == before
    record = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert set(record["pictures"]) == {*before, *(job.file for job in jobs)}, "one record, the old one"
    assert Manifest(folder).place(plan_jobs(photos, {"old-frog": "word"}, [1.0], {})) == jobs


@pytest.mark.parametrize("node", sorted(PROMPTS["schema"]))
def test_nodes_kept_their_inputs(node):
    """The editor stores what a widget holds by its place: names, kinds and order stay, and what is new comes after."""
    assert node in SCHEMA, "a workflow of 0.1.0 names it"
    old, new = PROMPTS["schema"][node], SCHEMA[node]
    for needed in ("required", "optional"):
        before, now = ([row[:3] for row in rows if row[2] == needed] for rows in (old["inputs"], new["inputs"]))
        assert now[: len(before)] == before
        assert needed == "optional" or len(now) == len(before), "what is new is optional"
    assert [kind for _, kind in new["outputs"]][: len(old["outputs"])] == old["outputs"]


@pytest.mark.parametrize("name", sorted(PROMPTS["examples"]))
def test_examples(name):
    for number, node in PROMPTS["examples"][name].items():
        if node["class_type"].startswith("AAI_"):
            inputs = {row[0]: row for row in SCHEMA[node["class_type"]]["inputs"]}
            assert set(node["inputs"]) <= set(inputs), number
            needed = {row[0] for row in inputs.values() if row[2] == "required"}
            assert needed <= set(node["inputs"]), number
