"""The pocket models as ComfyUI's own MODEL, CLIP and VAE, and the audio encoder."""

from __future__ import annotations

import inspect
from functools import cache
from typing import NamedTuple

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import folder_paths
import torch
from torch import Tensor

from ....aai_models.align.alignment import CLIP_L
from ....aai_models.align.self_test import self_test
from ....aai_models.errors import PocketError
from ....aai_models.shapes import first_difference, shapes_of
from ....pocket.models import autoencoder, hearing, text, unet, vocabulary, weights
from ..base.pocket_menus import SHIPPED
from ..hear.encoders import HostedCAVT
from . import saved
from .vision import PocketVision

CLIP_SETTINGS = {"num_hidden_layers": 1, "intermediate_size": text.INNER}
TAESD_KEY = "taesd_decoder.1.weight"  # by which the host recognises its smallest VAE
# The plain class: models of a few megabytes need not be streamed, and hooks, trainings and merges work on it at once.
Patcher = comfy.model_patcher.ModelPatcher


class Pocket(NamedTuple):
    """The pocket world's models."""

    model: Patcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    encoder: HostedCAVT
    vision: PocketVision


def load_pocket(name: str = SHIPPED) -> Pocket:
    """The models from the weights that came with the pack; MODEL, CLIP and VAE from the checkpoint `name`, if it is another.

    Raises `PocketError`.
    """
    parts, about = weights.load()
    shipped = name == SHIPPED
    pocket = build_pocket(parts, about) if shipped else _build({**saved.read(name), "cavt": parts["cavt"]}, name)
    for index, patcher in enumerate((pocket.model, pocket.clip.patcher, pocket.vae.patcher)):
        patcher.cached_patcher_init = (_patchers, (name,), index)  # for a host that wants one more on another device
    return pocket


def load_encoder() -> HostedCAVT:
    """The audio encoder that came with the pack, alone; raises `PocketError`."""
    return _encoder(weights.load()[0]["cavt"])


def _patchers(name: str, disable_dynamic: bool = False) -> list[Patcher]:
    """New patchers of the models, as the host's own loaders give them."""
    pocket = load_pocket(name)
    return [pocket.model, pocket.clip.patcher, pocket.vae.patcher]


def build_pocket(parts: dict[str, dict[str, Tensor]], about: dict) -> Pocket:
    """The models from float tensors by part; `about["tokens"]` are CLIP's ids of the rows of words."""
    return _build({**parts, "text": _hosted_text(parts["text"], about["tokens"])}, SHIPPED)


def _build(parts: dict[str, dict[str, Tensor]], source: str) -> Pocket:
    config = _unet_config()
    clip, encoder = _clip(config, parts["text"], source), _encoder(parts["cavt"])
    return Pocket(
        _model(config, parts["unet"], source), clip, _vae(parts["vae"], source), encoder, PocketVision(encoder)
    )


@cache
def _expected(part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a part under the host's names."""
    if part == "UNet":
        return shapes_of(unet.UNet)
    if part == "VAE":
        return shapes_of(autoencoder.Autoencoder)
    with torch.device("meta"):
        tensors = text.TextEncoder(0).host_state_dict()
    shapes = {f"text_model.{name}": tuple(tensor.shape) for name, tensor in tensors.items()}
    shapes["text_model.embeddings.token_embedding.weight"] = (vocabulary.SIZE, text.WIDTH)
    return {**shapes, "text_projection.weight": (text.WIDTH, text.WIDTH)}


def _unet_config():
    config = comfy.supported_models.SD15(
        {k: list(v) if isinstance(v, list) else v for k, v in unet.HOST_CONFIG.items()}
    )
    config.unet_config["num_heads"], config.unet_config["num_head_channels"] = unet.HEADS, -1
    return config


def _model(config, tensors: dict[str, Tensor], source: str):
    device, offload = mm.get_torch_device(), mm.unet_offload_device()
    size = sum(t.numel() for t in tensors.values())
    dtype = mm.unet_dtype(model_params=size, supported_dtypes=config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, mm.unet_manual_cast(dtype, device, config.supported_inference_dtypes))
    network = config.get_model({}, "", device=offload)
    _fill(network.diffusion_model, tensors, "UNet", source, dtype)
    return Patcher(network, load_device=device, offload_device=offload)


def _hosted_text(tensors: dict[str, Tensor], tokens: list[int]) -> dict[str, Tensor]:
    """The text encoder's tensors under the host's names, with the whole table of words."""
    left_out = ("rows", "hidden", "styles")  # the latter two: things and styles without a word, of training alone
    named = {f"text_model.{name}": tensor for name, tensor in tensors.items() if name not in left_out}
    named["text_model.embeddings.token_embedding.weight"] = vocabulary.table(tensors["rows"], tokens)
    return named


def _clip(config, tensors: dict[str, Tensor], source: str):
    target = config.clip_target({}) if config.clip_target.__code__.co_argcount > 1 else config.clip_target()
    # Newer hosts stream text encoders, unless they are told otherwise.
    plain = {"disable_dynamic": True} if "disable_dynamic" in inspect.signature(comfy.sd.CLIP).parameters else {}
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={},
        parameters=vocabulary.SIZE * text.WIDTH,
        model_options={"clip_l_model_config": CLIP_SETTINGS},
        **plain,
    )
    encoder = clip.cond_stage_model.clip_l
    dtype = next(iter(clip.cond_stage_model.dtypes))
    tensors = {**tensors, "text_projection.weight": torch.eye(text.WIDTH)}
    _fill(encoder.transformer, tensors, "text encoder", source, dtype)
    encoder.zero_out_masked = True  # the padding is empty, as in training
    encoder.projection_is_identity = True  # the image tower shares the space of the states themselves
    return clip


def _vae(tensors: dict[str, Tensor], source: str):
    # The host's constructor knows no model of ours; it makes its smallest one, which is then replaced.
    stand_in = comfy.taesd.taesd.TAESD(latent_channels=autoencoder.CHANNELS).state_dict()
    vae = comfy.sd.VAE(sd={TAESD_KEY: torch.zeros(64, autoencoder.CHANNELS, 3, 3), **stand_in})
    network = autoencoder.Autoencoder(operations=comfy.ops.manual_cast)
    _fill(network, tensors, "VAE", source, vae.vae_dtype)
    vae.first_stage_model = network.eval().to(vae.vae_dtype)
    vae.patcher = Patcher(
        vae.first_stage_model, load_device=vae.patcher.load_device, offload_device=vae.patcher.offload_device
    )
    return vae


def _encoder(tensors: dict[str, Tensor]) -> HostedCAVT:
    settings = {"operations": comfy.ops.manual_cast, "dtype": torch.float32}
    offload = mm.text_encoder_offload_device()
    model = hearing.PocketCAVTMAE.from_state_dict(hearing.as_used(tensors), device=offload, **settings)
    hosted = HostedCAVT(model, "pocket", str(weights.PATH), Patcher)
    hosted.aligned_with = CLIP_L  # of the pocket's own CLIP
    self_test(hosted.encode_audio, encode_image=hosted.encode_image if hosted.has_images else None)
    return hosted


def _fill(module: torch.nn.Module, tensors: dict[str, Tensor], what: str, source: str, dtype: torch.dtype) -> None:
    """Give a module its tensors as `dtype`; raises `PocketError` unless each fits."""
    wrong = first_difference(_expected(what), tensors)
    if wrong and source == SHIPPED:
        raise PocketError(
            f"The pocket weights do not fit the {what}: the first tensor that differs is {wrong}",
            "Weights and code must be of one version of the pack",
            "Install the pack again (git checkout -- pocket)",
        )
    if wrong:
        raise saved.refused(f"{source} holds another {what}: the first tensor that differs is {wrong}")
    module.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()})
