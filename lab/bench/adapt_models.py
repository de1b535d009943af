"""A UNet of SD1.5's shape at a fraction of its width with CLIP-L's real text tower, for ComfyUI and for diffusers.

Runs in a host's process, where the pack is `aai_pack`. The weights are random and the same on both sides.
"""

from __future__ import annotations

import comfy.model_management as mm
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from aai_pack.devtools import device, in_process
from aai_pack.devtools.stand_in import WeightMaker, taesd_tensors

# On a GPU the real sizes and the type that the host takes there; on a processor what it can train in seconds.
CHANNELS, WEIGHTS = (128, torch.float32) if device.current() == "cpu" else (320, torch.float16)
UNET = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": CHANNELS,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
    "use_temporal_resblock": False,
    "use_temporal_attention": False,
    "adm_in_channels": None,
}


def fill(module: torch.nn.Module, seed: int) -> None:
    """Seeded weights of the usual sizes, drawn where the models will run."""
    place = mm.get_torch_device()
    generator = torch.Generator(device=place).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 0:
            continue
        if parameter.ndim == 1:
            value = torch.full(parameter.shape, float(name.endswith("weight")))
        else:
            std = {"token_embedding": 0.014, "position_embedding": 0.004}.get(
                name.split(".")[-2], parameter[0].numel() ** -0.5
            )
            value = torch.randn(parameter.shape, generator=generator, device=place) * std
        parameter.data.copy_(value)


def build(shape: dict = UNET, layers: int = 12, seed: int = 0):
    """(model, clip, vae) of the host."""
    return in_process.reloadable(_made, shape, layers, seed)


def _made(shape: dict, layers: int, seed: int, disable_dynamic: bool = False):
    with torch.inference_mode(), in_process.whole_weights():
        config = comfy.supported_models.SD15(dict(shape))
        config.set_inference_dtype(WEIGHTS, None)
        network = config.get_model({}, "", device="cpu")
        network.diffusion_model.to(WEIGHTS)
        fill(network.diffusion_model, seed)
        model = in_process.patcher(network, disable_dynamic=disable_dynamic)
        options = {"clip_l_model_config": {"num_hidden_layers": layers}, "dtype": WEIGHTS}
        clip = in_process.text_encoders(config, options, disable_dynamic=disable_dynamic)
        fill(clip.cond_stage_model, seed + 1)
        vae = comfy.sd.VAE(sd={name: tensor.float() for name, tensor in taesd_tensors(WeightMaker(seed)).items()})
    return model, clip, vae


def as_diffusers(model, clip):
    """(UNet2DConditionModel, CLIPTextModel) with the same weights."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = model.model.model_config.unet_config
    each, depths = shape["num_res_blocks"], iter(shape["transformer_depth"])
    attends = [any([next(depths) for _ in range(count)]) for count in each]
    unet = UNet2DConditionModel(
        block_out_channels=tuple(shape["model_channels"] * m for m in shape["channel_mult"]),
        down_block_types=[_block("Down", found) for found in attends],
        mid_block_type="UNetMidBlock2D" if shape["transformer_depth_middle"] < 0 else "UNetMidBlock2DCrossAttn",
        up_block_types=[_block("Up", found) for found in reversed(attends)],
        layers_per_block=each[0],
        cross_attention_dim=768,
        attention_head_dim=shape["num_heads"],
    )
    ours = model.model.diffusion_model.state_dict()
    names = {theirs: mine for theirs, mine in comfy.utils.unet_to_diffusers(shape).items() if mine in ours}
    unet.load_state_dict({theirs: ours[mine].clone() for theirs, mine in names.items()})
    mine = clip.cond_stage_model.clip_l.transformer.state_dict()
    layers = {name.split("layers.")[1].split(".")[0] for name in mine if "layers." in name}
    inner = next(len(tensor) for name, tensor in mine.items() if name.endswith("layers.0.mlp.fc1.weight"))
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=inner,
        num_hidden_layers=len(layers),
        num_attention_heads=12,
        hidden_act="quick_gelu",
        max_position_embeddings=77,
        eos_token_id=49407,
    )
    text = CLIPTextModel(config)
    expected = text.state_dict()
    prefix = "" if any(name.startswith("text_model.") for name in expected) else "text_model."
    text.load_state_dict(
        {name: mine[prefix + name].clone() if prefix + name in mine else t for name, t in expected.items()}
    )
    return unet.eval(), text.eval()


def _block(way: str, attends: bool) -> str:
    return f"CrossAttn{way}Block2D" if attends else f"{way}Block2D"
