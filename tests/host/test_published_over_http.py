"""Published encoders as a person has them: in models/audio_encoders, through the whole of examples 1, 6 and 4 over HTTP.

AudioToken, which makes words of its own, has test_audiotoken_over_http.py.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.devtools import workflows
from aai_pack.tests import imagebind_twins, published_twins, vision_stand_in
from aai_pack.tests.host.test_bad_input import assert_readable
from PIL import Image

HAS_PE = importlib.util.find_spec("transformers.models.pe_audio") is not None
IMAGEBIND, WITHOUT_TEXTS, VISION = "imagebind_huge.pth", "imagebind-huge", "CLIP-ViT-H-14.pth"
# Kind -> its name in models/audio_encoders.
KINDS = {"clap": "clap-htsat-unfused", "pe": "pe-av-small", "imagebind": IMAGEBIND}


@pytest.fixture(scope="module", autouse=True)
def installed(workspace, client):
    """An encoder of each kind, CLIP Vision ViT-H, and a folder of two pictures, since ViT-H takes seconds for each."""
    base, vision, few = workspace.models / "audio_encoders", workspace.models / "clip_vision", workspace.input / "two"
    published_twins.clap(base / KINDS["clap"])
    if HAS_PE:
        published_twins.pe(base / KINDS["pe"])
    imagebind_twins.published(base / IMAGEBIND, texts=True)
    imagebind_twins.published(base / WITHOUT_TEXTS / "model.safetensors", "transformers")
    (base / WITHOUT_TEXTS / "config.json").write_text('{"model_type": "imagebind"}')
    vision_stand_in.write_vit_h(vision / VISION)
    few.mkdir()
    for path in sorted((workspace.input / "pictures").iterdir())[:2]:
        shutil.copy(path, few)
    yield client.get("/object_info/AAI_LoadCAVT")["AAI_LoadCAVT"]["input"]["required"]["checkpoint"]
    for folder in (base / KINDS["clap"], base / KINDS["pe"], base / WITHOUT_TEXTS, few):
        shutil.rmtree(folder, ignore_errors=True)
    (base / IMAGEBIND).unlink()
    (vision / VISION).unlink()


@pytest.fixture(scope="module", params=list(KINDS))
def ear(request):
    if request.param == "pe" and not HAS_PE:
        pytest.skip("transformers of this host has no PE")
    return KINDS[request.param]


def example(name: str, stand_ins, ear: str) -> dict:
    short = replace(stand_ins, cavt=f"audio_encoders/{ear}", steps=2, sampler_steps=1)
    return workflows.shrink(workflows.load_real(name), short)


def succeed(client, prompt: dict):
    run = client.run(prompt)
    assert run.status == "success", run.message
    return run


def pixels(client, file: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(client.fetch(file))))


def heard(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("Heard: "))


@pytest.fixture(scope="module")
def without_training(ear, client, stand_ins):
    """Example 6, run."""
    return succeed(client, example("06 Word without training", stand_ins, ear))


def test_example_6_a_word_without_training(ear, client, stand_ins, without_training):
    (said,) = without_training.outputs["5"]["text"]
    assert f"among 229 labels, compared by {ear}'s own texts" in said and "Drawn as: " in said
    prompt = example("06 Word without training", stand_ins, ear)
    prompt["1"]["inputs"]["start"] = 0.7
    other = succeed(client, prompt)
    assert heard(other.outputs["5"]["text"][0]) != heard(said), "another sound is heard as something else"
    pictures = [pixels(client, *run.files("25")) for run in (without_training, other)]
    assert pictures[0].shape == (64, 64, 3) and pictures[0].std() > 1 and not np.array_equal(*pictures)


def test_example_1_a_word_from_pictures(ear, client, stand_ins, workspace):
    run = succeed(client, example("01 Sound to picture", stand_ins, ear))
    (report,) = run.outputs["8"]["text"]
    assert "Kept step " in report and len(run.outputs["8"]["aai_losses"][0]) == 2
    assert float(re.search(r"cosine to the word of another sound (\S+)\.$", report).group(1)) < 0.95
    assert run.outputs["10"]["text"] == ["embedding:my-sound"]
    token = AudioToken.load(workspace.models / "embeddings" / "my-sound.safetensors")
    word, sound = token.vectors["clip_l"], token.sound("clip_l")
    assert word.shape == (1, 768) and word.isfinite().all() and 0.2 < sound.norm() / word.norm() < 1.5
    assert pixels(client, *run.files("16")).std() > 1


def finding(stand_ins, ear: str, **inputs) -> dict:
    """Example 4, whose word begins at what was heard; the pictures that were found are shown by node 60."""
    prompt = example("04 Sound finds pictures", stand_ins, ear)
    prompt["50"] = {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": VISION}}
    prompt["51"] = {"class_type": "LoadImage", "inputs": {"image": stand_ins.references[0]}}
    prompt["60"] = {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}
    prompt["4"]["inputs"] |= inputs
    prompt["7"]["inputs"]["bridge"] = "auto"
    return prompt


def test_example_4_pictures_for_the_sound(ear, client, stand_ins, workspace, without_training):
    """By the encoder's own refusal: what it says to connect is connected, and all of the example runs."""
    refused = client.run(example("04 Sound finds pictures", stand_ins, ear))
    if ear == IMAGEBIND:
        assert_readable(refused, f"{ear} cannot encode pictures", "Load CLIP Vision", "CLIP-ViT-H-14", "`clip_vision`")
        run = succeed(client, finding(stand_ins, ear, clip_vision=["50", 0], folder="two"))
        there = sorted((workspace.input / "two").iterdir())
    else:
        words = ("both towers", "or ImageBind", "`own_pictures`", "as `k` says: 4")
        assert_readable(refused, f"{ear} cannot encode pictures", *words)
        run = succeed(client, finding(stand_ins, ear, own_pictures=["51", 0], k=1))
        there = [workspace.input / stand_ins.references[0]]
    found = [pixels(client, file) for file in run.files("60")]
    expected = [np.asarray(Image.open(path).convert("RGB")) for path in there]
    assert sorted(picture.tobytes() for picture in found) == sorted(picture.tobytes() for picture in expected)
    (report,) = run.outputs["7"]["text"]
    assert heard(report) == heard(without_training.outputs["5"]["text"][0]), "the word begins where example 6 ends"
    assert run.files("5") and pixels(client, *run.files("13")).std() > 1


def test_imagebind_without_its_texts(client, stand_ins):
    """The folder has no texts for SD1.x: a word needs pictures, and the sentence says what has texts."""
    run = client.run(example("06 Word without training", stand_ins, WITHOUT_TEXTS))
    assert_readable(run, f"{WITHOUT_TEXTS} knows no words", IMAGEBIND, "SD2.x", "Find Pictures for Sound")
    prompt = example("01 Sound to picture", stand_ins, WITHOUT_TEXTS)
    prompt["8"]["inputs"]["bridge"] = "auto"
    (report,) = succeed(client, prompt).outputs["8"]["text"]
    assert "Kept step " in report and f"bridge = none: {WITHOUT_TEXTS} knows no words" in report


def test_the_menu(installed):
    names = {f"audio_encoders/{name}" for kind, name in KINDS.items() if HAS_PE or kind != "pe"}
    assert names | {f"audio_encoders/{WITHOUT_TEXTS}"} <= set(installed[1].get("options", installed[0]))
