"""A sound in a picture's place, over HTTP: ImageBind's file, the stock unCLIP nodes and sampler, a latent."""

from __future__ import annotations

import pytest
import torch
from aai_pack.tests import imagebind_twins, unclip_stand_in
from aai_pack.tests.host import graphs
from aai_pack.tests.host.test_bad_input import assert_readable
from safetensors.torch import load

CHECKPOINT, EAR = "unclip_stand_in.ckpt", "audio_encoders/imagebind_huge.pth"


@pytest.fixture(scope="module", autouse=True)
def files(workspace):
    """A checkpoint and an encoder in their folders."""
    unclip_stand_in.write_checkpoint(workspace.models / "checkpoints" / CHECKPOINT)
    imagebind_twins.published(workspace.models / EAR)
    yield
    (workspace.models / "checkpoints" / CHECKPOINT).unlink()
    (workspace.models / EAR).unlink()


def graph(stand_ins, *, strength: float = 1.0, start: float = 0.0, stock: bool = False) -> dict:
    """Sound -> embedding (14) -> unCLIPConditioning (5) -> latent (8); `stock` leaves out all but the stock nodes."""
    found = {} if stock else graphs.hear(stand_ins, start=start, duration=1.5)
    found["1"] = {"class_type": "unCLIPCheckpointLoader", "inputs": {"ckpt_name": CHECKPOINT}}
    found["2"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a photo"}}
    found["4"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    if not stock:
        found["12"]["inputs"]["checkpoint"] = EAR
        inputs = {"audio_feature": ["13", 0], "norm": 20.0, "sounds": "mean"}
        found["14"] = {"class_type": "AAI_SoundImageEmbedding", "inputs": inputs}
        inputs = {"conditioning": ["2", 0], "clip_vision_output": ["14", 0], "strength": strength}
        found["5"] = {"class_type": "unCLIPConditioning", "inputs": {**inputs, "noise_augmentation": 0.0}}
    inputs = {"model": ["1", 0], "positive": ["2" if stock else "5", 0], "negative": ["2", 0], "latent_image": ["4", 0]}
    inputs |= {"seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    found["7"] = {"class_type": "KSampler", "inputs": inputs}
    found["8"] = {"class_type": "SaveLatent", "inputs": {"samples": ["7", 0], "filename_prefix": "unclip"}}
    return found


def latent(client, prompt) -> torch.Tensor:
    run = client.run(prompt)
    assert run.status == "success", run.message
    (file,) = run.outputs["8"]["latents"]
    return load(client.fetch(file))["latent_tensor"]


def test_a_sound_acts_as_a_picture_does(client, stand_ins):
    assert EAR in str(client.get("/object_info/AAI_LoadCAVT"))
    heard = latent(client, graph(stand_ins))
    other = latent(client, graph(stand_ins, start=0.7))
    stock = latent(client, graph(stand_ins, stock=True))
    assert heard.isfinite().all() and heard.std() > 0.1
    assert not torch.allclose(heard, stock, atol=1e-4) and not torch.allclose(heard, other, atol=1e-6)
    assert torch.equal(latent(client, graph(stand_ins, strength=0.0)), stock), "neutral"


def test_another_encoder_is_refused(client, stand_ins):
    prompt = graph(stand_ins)
    prompt["12"]["inputs"]["checkpoint"] = stand_ins.cavt
    assert_readable(client.run(prompt), "CLIP Vision ViT-H", "imagebind_huge")
