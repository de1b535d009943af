"""The pocket models as ComfyUI's own: the same numbers as in training, and the manners of its other models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import comfy.model_management as mm
import comfy.sample
import comfy.sd
import comfy.supported_models
import comfy.utils
import folder_paths
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.start import initial_token
from aai_pack.aai_models.align.images import image_input
from aai_pack.aai_models.errors import PocketError
from aai_pack.devtools import device
from aai_pack.lab.training.diffusion import Model
from aai_pack.lab.training.export import text_part
from aai_pack.lab.training.sounds import Hearing
from aai_pack.lab.training.words import TOKENS, indices
from aai_pack.nodes import pocket as nodes
from aai_pack.nodes.host.adapt import warm_start
from aai_pack.nodes.host.base.vocabulary import word_statistics
from aai_pack.nodes.host.hear.pictures import to_picture
from aai_pack.nodes.host.pocket import models as pocket
from aai_pack.nodes.host.pocket import saved
from aai_pack.pocket.models import weights
from aai_pack.pocket.models.autoencoder import Autoencoder
from aai_pack.pocket.models.hearing import half_kernel
from aai_pack.pocket.models.text import WORDS, key_bias
from aai_pack.tests.host import micro
from safetensors.torch import load

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a photo of a red dog on a beach"


@pytest.fixture(scope="module")
def trained():
    """Random weights of the right shapes: (the training's modules, parts, about)."""
    torch.manual_seed(0)
    model, autoencoder, hearing = Model(), Autoencoder(), Hearing()
    for module in (model, autoencoder):
        for parameter in module.parameters():
            if not parameter.abs().sum():
                parameter.data += 0.03 * torch.randn_like(parameter)
    cavt = hearing.state()
    cavt["patch_embed_v.proj.weight"] = half_kernel(cavt["patch_embed_v.proj.weight"])
    parts = {
        "unet": model.unet.state_dict(),
        "text": text_part(model.words),
        "vae": autoencoder.state_dict(),
        "cavt": cavt,
    }
    return (model, autoencoder), parts, {"tokens": TOKENS}


def build(trained):
    with torch.inference_mode():
        return pocket.build_pocket(trained[1], trained[2])


@pytest.fixture(scope="module")
def models(trained):
    return build(trained)


def options_of(listed: list) -> list[str]:
    """The choices of a menu as /object_info lists them, in either form that hosts use."""
    return listed[1]["options"] if listed[0] == "COMBO" else listed[0]


def drawn(models, seed: int = 1, steps: int = 3, shape=(1, 4, 16, 16), model=None) -> torch.Tensor:
    model, clip = model or models[0], models[1]
    with torch.inference_mode():
        told, empty = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (PROMPT, ""))
        latent = torch.zeros(shape)
        noise = comfy.sample.prepare_noise(latent, seed)
        return micro.sampled(model, noise, steps, 5.0, "euler", "normal", told, empty, latent, seed=seed)


def test_the_hosts_tokenizer_reads_captions_as_training_does(models):
    ids = [int(number) for number, *_ in models[1].tokenize(PROMPT)["l"][0]]
    assert len(ids) == 77 and ids[: WORDS + 1] == [TOKENS[row] for row in indices(PROMPT)]
    assert set(ids[WORDS:]) == {49407}


@pytest.mark.cpu_only(reason="calls the layers themselves, which compute in half precision on a GPU")
def test_text_encoder_and_unet_compute_what_they_did_in_training(models, trained):
    model, clip, *_ = models
    ours = trained[0][0]
    with torch.inference_mode():
        states, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
        short = ours.words(torch.tensor([indices(PROMPT)]), torch.zeros(1, dtype=torch.long))
        assert states.shape == (1, 77, 768)
        tolerance = 5e-3 * float(short.abs().max())  # the host may hold the weights in half precision
        assert torch.allclose(states[:, :WORDS], short[:, :WORDS], atol=tolerance)
        assert torch.allclose(states[:, WORDS:], short[:, -1:].expand(-1, 77 - WORDS, -1), atol=tolerance)
        assert torch.allclose(pooled, short[:, 10], atol=tolerance)  # the end token's state
        x, timestep = torch.randn(1, 4, 16, 16), torch.tensor([300.0])
        host = model.model.diffusion_model(x, timestep, context=states)
        assert torch.allclose(host, ours.unet(x, timestep, short, key_bias()), atol=2e-2 * float(host.abs().max()))


def test_the_vae_encodes_decodes_and_tiles(models, trained):
    vae, autoencoder = models[2], trained[0][1]
    picture = torch.rand(2, 128, 128, 3)
    with torch.inference_mode():
        latent = vae.encode(picture)
        assert latent.shape == (2, 4, 16, 16)
        assert torch.allclose(
            latent,
            autoencoder.encode(picture.permute(0, 3, 1, 2) * 2 - 1),
            atol=1e-3 if device.current() == "cpu" else 2e-2,
        )
        assert vae.decode(latent).shape == picture.shape
        assert vae.decode_tiled(latent, tile_x=8, tile_y=8, overlap=2).shape == picture.shape
        assert vae.encode(torch.rand(1, 133, 141, 3)).shape == (1, 4, 16, 17)  # cut to multiples of eight


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 4, 16, 24), (1, 4, 40, 12), (1, 4, 17, 19), (1, 4, 64, 64)])
def test_other_sizes_and_batches(models, shape):
    result = drawn(models, shape=shape, steps=2)
    assert result.shape == shape and bool(torch.isfinite(result).all())


def test_the_same_seed_draws_the_same_and_two_pockets_do_not_disturb_each_other(models, trained):
    first = drawn(models)
    others = build(trained)
    assert torch.equal(drawn(others), first) and torch.equal(drawn(models), first)
    assert not torch.equal(drawn(models, seed=2), first)


@pytest.mark.whole_weights(reason="the first picture after a load differs in its last bits")
def test_unloading_changes_nothing(models):
    before = drawn(models)
    mm.unload_all_models()
    assert torch.equal(drawn(models), before)


def test_lora_patches_reach_the_weights_and_leave_them(models):
    before = drawn(models)
    key = "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    patched = models[0].clone()
    weight = models[0].model.state_dict()[key]
    assert patched.add_patches({key: ("diff", (torch.randn(weight.shape),))}, 1.0)
    assert not torch.equal(drawn(models, model=patched), before)
    assert torch.equal(drawn(models), before)


def test_an_interrupted_run_leaves_no_trace(models):
    before = drawn(models)

    def stop(step, *_):
        if step == 1:
            mm.interrupt_current_processing()

    with torch.inference_mode(), pytest.raises(mm.InterruptProcessingException):
        clip = models[1]
        told = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
        latent = torch.zeros(1, 4, 16, 16)
        noise = comfy.sample.prepare_noise(latent, 1)
        comfy.sample.sample(models[0], noise, 6, 5.0, "euler", "normal", told, told, latent, callback=stop, seed=1)
    assert torch.equal(drawn(models), before)


def test_half_precision(trained):
    with torch.inference_mode():
        network = build(trained)[0].model.diffusion_model.half()
        x, context = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 768)
        result = network(x.half(), torch.tensor([300.0]), context=context.half())
    assert result.dtype == torch.float16 and bool(torch.isfinite(result).all())


def test_the_encoder_hears_and_sees(models):
    hosted = models[3]
    with torch.inference_mode():
        heard = hosted.encode(torch.randn(2, 1, 40960) * 0.1, 16000)
        seen = hosted.encode_image(torch.randn(2, 3, 224, 224))
    assert heard.shape == seen.shape == (2, 768) and hosted.has_images
    assert torch.allclose(heard.norm(dim=-1), torch.ones(2), atol=1e-5)


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A folder that the host looks into for checkpoints, and the only one."""
    kinds = folder_paths.folder_names_and_paths["checkpoints"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(tmp_path)], kinds))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


def save(model, clip, vae, path) -> None:
    with torch.inference_mode():
        comfy.sd.save_checkpoint(str(path), model, clip, vae)


def test_what_save_checkpoint_wrote_is_read_back_with_its_patches(models, trained, checkpoints, monkeypatch):
    monkeypatch.setattr(weights.load, "__defaults__", (checkpoints / "pocket_weights",))
    weights.save(*trained[1:], checkpoints / "pocket_weights")
    model, clip, vae, *_ = models
    patched = model.clone()
    key = "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    patched.add_patches({key: ("diff", (torch.randn(model.model.state_dict()[key].shape),))}, 1.0)
    expected, pictures = drawn(models, model=patched), torch.rand(1, 128, 128, 3)
    save(patched, clip, vae, checkpoints / "mine.safetensors")
    again = nodes.AAI_PocketModels.execute("mine.safetensors").result
    assert torch.equal(drawn(again), expected)
    assert not torch.equal(drawn(again), drawn(models))
    with torch.inference_mode():
        assert torch.equal(again[2].encode(pictures), vae.encode(pictures))
    first = nodes.AAI_PocketModels.fingerprint_inputs("mine.safetensors")
    save(model, clip, vae, checkpoints / "mine.safetensors")
    assert nodes.AAI_PocketModels.fingerprint_inputs("mine.safetensors") != first
    assert "mine.safetensors" in nodes.AAI_PocketModels.define_schema().inputs[0].options


def test_saved_and_reloaded_over_http(client):
    """Save Checkpoint in one prompt, its file in the next: the same picture, bit for bit."""

    def latent(seed=3, **inputs) -> torch.Tensor:
        graph = {
            "1": {"class_type": "AAI_PocketModels", "inputs": inputs},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": PROMPT}},
            "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 2}},
        }
        settings = {
            "seed": seed,
            "steps": 3,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }
        wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]}
        graph["4"] = {"class_type": "KSampler", "inputs": {**settings, **wires}}
        graph["5"] = {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": "pocket"}}
        models = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "filename_prefix": "checkpoints/pocket"}
        if not inputs:
            graph["6"] = {"class_type": "CheckpointSave", "inputs": models}
        run = client.run(graph)
        assert run.status == "success", run.message
        return load(client.fetch(run.outputs["5"]["latents"][0]))["latent_tensor"]

    latent(2)  # on a GPU the first run after a load differs in its last bits
    shipped = latent()
    options = client.get("/object_info/AAI_PocketModels")["AAI_PocketModels"]["input"]["optional"]["weights"]
    (name,) = [name for name in options_of(options) if name.startswith("pocket_")]
    latent(2, weights=name)
    assert torch.equal(latent(weights=name), shipped) and shipped.std() > 0.1


def test_other_files_are_refused_with_what_differs(models, checkpoints):
    path = checkpoints / "other.safetensors"

    def refused(match: str):
        return pytest.raises(PocketError, match=match)

    with refused(r"no checkpoint 'other\.safetensors'.*Save Checkpoint"):
        nodes.AAI_PocketModels.execute("other.safetensors")
    path.write_bytes(b"nothing")
    folder_paths.filename_list_cache.clear()
    with refused("cannot be read as a model file"):
        nodes.AAI_PocketModels.execute("other.safetensors")
    save(models.model, None, models.vae, path)
    with refused(r"holds nothing named cond_stage_model\.transformer\.\*.*Load Checkpoint"):
        nodes.AAI_PocketModels.execute("other.safetensors")
    tensors = {f"{prefix}weight": torch.zeros(2) for prefix in saved.PREFIXES.values()}
    comfy.utils.save_torch_file(tensors, str(path))
    with refused("holds another text encoder: the first tensor that differs is"):
        nodes.AAI_PocketModels.execute("other.safetensors")
    with refused("no checkpoint '../secret.safetensors'"):
        nodes.AAI_PocketModels.execute("../secret.safetensors")


def test_clip_vision_sees_what_the_encoder_sees(models):
    pictures = torch.rand(3, 150, 128, 4)
    with torch.inference_mode():
        output = models.vision.encode_image(pictures)
        assert output["image_embeds"].shape == (3, 768)
        assert output["last_hidden_state"].shape == output["penultimate_hidden_states"].shape == (3, 49, 768)
        cropped = pictures[:, 11:139, :, :3]
        pixels = torch.stack([image_input(to_picture(picture)) for picture in cropped])
        assert float((output["image_embeds"] * models.encoder.encode_image(pixels)).sum(-1).min()) > 0.999
        squeezed = models.vision.encode_image(pictures, crop=False)["image_embeds"]
    assert not torch.equal(squeezed, output["image_embeds"])


def test_a_word_starts_warm_on_the_pocket(models):
    config = AdaptConfig(steps=1, resolution=128, start="warm_start", held_out=1)
    pictures = nodes.AAI_PocketScene.execute("cat", "snow", "blue", "photo", 0.7, 3, 3).result[0]
    sound = torch.nn.functional.normalize(torch.ones(768), dim=0)
    start = initial_token(sound, word_statistics(models.clip), config)
    with torch.inference_mode():
        seen = warm_start.image_features(models.vision, [[pictures]])
        token, distances = warm_start.warmed(models.clip, seen, start, config)
    assert min(distances) < 0.98 * distances[0]
    assert not torch.equal(token.vectors["clip_l"], start.vectors["clip_l"])


def test_weights_that_do_not_fit_are_named(trained):
    parts = {part: dict(tensors) for part, tensors in trained[1].items()}
    parts["unet"].pop("out.2.bias")
    with torch.inference_mode(), pytest.raises(PocketError, match=r"UNet.*out\.2\.bias"):
        pocket.build_pocket(parts, trained[2])


def test_missing_weights_are_one_sentence_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(weights.load, "__defaults__", (tmp_path / "gone.safetensors",))
    with pytest.raises(PocketError, match=r"gone\.safetensors.*Install the pack again"):
        nodes.AAI_PocketModels.execute()


LAZY = """
import asyncio, importlib.util, sys
root = sys.argv[1]
sys.argv = ["x", "--cpu"]
sys.path.insert(0, ".")
import comfy.options
comfy.options.enable_args_parsing()
spec = importlib.util.spec_from_file_location("aai_pack", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["aai_pack"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
listed = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
ids = {node.define_schema().node_id for node in listed}
assert "AAI_PocketModels" in ids
loaded = [name for name in sys.modules if name.startswith(("aai_pack.pocket", "aai_pack.lab"))]
assert not loaded, loaded
"""


def test_nothing_of_the_pocket_is_imported_until_its_node_runs():
    comfyui = Path(folder_paths.__file__).parent
    done = subprocess.run([sys.executable, "-c", LAZY, str(ROOT)], capture_output=True, text=True, cwd=comfyui)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_shipped_weights_fit_and_are_small():
    assert weights.PATH.stat().st_size < 15_000_000
    with torch.inference_mode():
        shipped = pocket.load_pocket()
        picture = shipped.vae.decode(drawn(shipped, steps=8))
    assert picture.shape == (1, 128, 128, 3) and float(picture.std()) > 0.05
    assert sum(p.numel() for p in shipped.model.model.diffusion_model.parameters()) == 5_425_988
