"""Models of the host's own classes for SD1.x, SD2.x and SDXL, so small that a training step takes a fraction of a second."""

from __future__ import annotations

import json

import comfy.clip_vision
import comfy.sample
import comfy.sd
import comfy.supported_models
import torch
from aai_pack.devtools import device, in_process
from aai_pack.devtools.stand_in import WeightMaker, taesd_tensors

CPU = torch.device("cpu")
UNET = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1] * 4,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
    "use_temporal_resblock": False,
    "use_temporal_attention": False,
    "adm_in_channels": None,
}
LINEAR = {"use_linear_in_transformer": True}
# Family -> class of the host, what its UNet has that SD1.5's has not, values of a head of attention (SD1.5 fixes their number).
FAMILIES = {
    "sd15": (comfy.supported_models.SD15, {}, None),
    "sd2": (comfy.supported_models.SD20, {**LINEAR, "context_dim": 1024}, 16),
    "sdxl": (
        comfy.supported_models.SDXL,
        {**LINEAR, "context_dim": 2048, "num_classes": "sequential", "adm_in_channels": 2816},
        16,
    ),
}
# What training refuses, and is told apart from what it takes.
REFUSED = {
    "refiner": (
        comfy.supported_models.SDXLRefiner,
        {**LINEAR, "context_dim": 1280, "num_classes": "sequential", "adm_in_channels": 2560},
        16,
    ),
}
WIDTHS = {
    "refiner": {"clip_g": 1280},
    "sd15": {"clip_l": 768},
    "sd2": {"clip_h": 1024},
    "sdxl": {"clip_l": 768, "clip_g": 1280},
}


def fill(module: torch.nn.Module, seed: int, scale: float = 1.0) -> None:
    """Seeded weights for layers that the host leaves uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 0:  # logit_scale
            continue
        if parameter.ndim == 1:
            value = torch.ones(parameter.shape) if name.endswith("weight") else torch.zeros(parameter.shape)
        else:
            std = scale * parameter[0].numel() ** -0.5
            std = {"token_embedding": 0.014, "position_embedding": 0.004}.get(name.split(".")[-2], std)
            value = torch.randn(parameter.shape, generator=generator) * std
        parameter.data.copy_(value)


def build(family: str = "sd15", weights=torch.float32, compute=None, seed: int = 0, text=torch.float32):
    """(model, clip, vae) of a family, whose weights are inference tensors, as those of loader nodes are.

    `weights` and `compute` are the UNet's types, `text` that of the text encoder's weights. On a GPU they have drawn a picture,
    see `sampled`.
    """
    model, clip, vae = in_process.reloadable(_made, family, weights, compute, seed, text)
    if device.current() != "cpu":
        with torch.inference_mode():
            told, latent = clip.encode_from_tokens_scheduled(clip.tokenize("warm")), torch.zeros(1, 4, 8, 8)
            comfy.sample.sample(model, latent, 1, 2.0, "euler", "normal", told, told, latent, seed=0, disable_pbar=True)
    return model, clip, vae


def sampled(*values, **settings) -> torch.Tensor:
    """`comfy.sample.sample` of a model that may just have been loaded; on a GPU a second time, since the first picture
    after a load differs in its last bits from all others."""
    if device.current() != "cpu":
        comfy.sample.sample(*values, **settings)
    return comfy.sample.sample(*values, **settings)


def _made(family: str, weights, compute, seed: int, text, disable_dynamic: bool = False):
    kind, own, head = (FAMILIES | REFUSED)[family]
    with torch.inference_mode(), in_process.whole_weights():
        config = kind({**UNET, **own})
        if head:
            config.unet_config["num_head_channels"] = head
        config.set_inference_dtype(weights, compute)
        network = config.get_model({}, "", device="cpu")
        network.diffusion_model.to(weights)
        fill(network.diffusion_model, seed)
        model = in_process.patcher(network, disable_dynamic=disable_dynamic)
        # The host reads the layer before the last of SD2's and SDXL's text encoders and wants more than two for that.
        layers = {"num_hidden_layers": 2 if family == "sd15" else 3}
        options = {f"{name}_model_config": layers for name in WIDTHS[family]}
        options["dtype"] = text
        clip = in_process.text_encoders(config, options, disable_dynamic=disable_dynamic)
        fill(clip.cond_stage_model, seed + 1)
        tensors = {name: tensor.float() for name, tensor in taesd_tensors(WeightMaker(seed)).items()}
        vae = comfy.sd.VAE(sd=tensors)
    return model, clip, vae


def pictures(count: int = 3, seed: int = 0) -> list[torch.Tensor]:
    """Reference pictures of different sizes, each (1, H, W, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 48 + 8 * i, 72 - 8 * i, 3, generator=generator) for i in range(count)]


def sound(seed: int = 0) -> torch.Tensor:
    """A unit feature (768,)."""
    return torch.nn.functional.normalize(torch.randn(768, generator=torch.Generator().manual_seed(seed)), dim=-1)


def vision(folder, width: int = 768, seed: int = 0):
    """A CLIP vision model of the host's own class whose pictures are features of `width` values."""
    config = {
        "architectures": ["CLIPVisionModelWithProjection"],
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": 32,
        "image_size": 32,
        "initializer_factor": 1.0,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model",
        "num_attention_heads": 2,
        "num_channels": 3,
        "num_hidden_layers": 3,
        "patch_size": 8,
        "projection_dim": width,
        "torch_dtype": "float32",
    }
    path = folder / "clip_vision.json"
    path.write_text(json.dumps(config))
    with torch.inference_mode(), in_process.whole_weights():
        model = comfy.clip_vision.ClipVisionModel(str(path))
        fill(model.model, seed)
    return model
