"""What a training step or an edit with a model of full size takes on a device: prints a line of JSON.

    python memory_child.py step|edit ARGUMENTS_AS_JSON

The working folder is a ComfyUI tree, the device is the emulated one with sizes alone: each tensor's memory is counted as
PyTorch asks for it, and nothing large is computed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from adapt_child import answer, train

GIB = 2**30
# Each model's shape beside that of SD1.5, and how large its pictures are.
FAMILIES = {
    "SD15": ({}, 512),
    "SDXL": (
        {
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4],
            "num_heads": -1,
            "num_head_channels": 64,
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
            "context_dim": 2048,
            "use_linear_in_transformer": True,
            "num_classes": "sequential",
            "adm_in_channels": 2816,
        },
        1024,
    ),
}


def build(family: str, weights: str):
    """(model, clip, vae) of the host, computed in fp16, whose weights nobody has written; `weights` names the UNet's type."""
    import comfy.sd
    import comfy.supported_models
    import torch
    from aai_pack.devtools import in_process
    from aai_pack.devtools.stand_in import WeightMaker, taesd_tensors
    from adapt_models import UNET

    with torch.inference_mode(), in_process.whole_weights():
        config = getattr(comfy.supported_models, family)({**UNET, **FAMILIES[family][0]})
        stored = getattr(torch, weights)
        config.set_inference_dtype(stored, None if stored == torch.float16 else torch.float16)
        network = config.get_model({}, "", device="cpu")
        network.diffusion_model.to(stored)
        clip = in_process.text_encoders(config, {"dtype": torch.float16})
        vae = comfy.sd.VAE(sd={name: tensor.float() for name, tensor in taesd_tensors(WeightMaker(0)).items()})
        return in_process.patcher(network), clip, vae


def limited(arguments: dict):
    """The models of `arguments`, and from now on as many GiB as it says."""
    import torch

    models = build(arguments["family"], arguments["weights"])
    torch.xpu.set_capacity(int(arguments["free"] * GIB))
    torch.xpu.reset_peak_memory_stats()
    return models


def step(arguments: dict) -> dict:
    """Two steps of a training: the way in which they were computed, and the peak."""
    import torch
    from aai_pack.aai_models.errors import TrainingError
    from aai_pack.nodes.host.adapt import memory

    taken, less = ["plain"], memory.StepMemory.less

    def noted(self):
        less(self)
        taken.append(self.way)

    memory.StepMemory.less = noted
    try:
        train(limited(arguments), steps=2, evaluate_every=2, resolution=FAMILIES[arguments["family"]][1])
    except TrainingError as error:
        return {"way": "none", "said": str(error)}
    return {"way": taken[-1], "peak": torch.xpu.max_memory_allocated()}


def edit(arguments: dict) -> dict:
    """A picture and so many edits of it, three steps: where the source's attention was kept, and the peak."""
    import edit_child
    import torch
    from aai_pack.nodes.host.inject import source_memory

    places, begin = {}, source_memory.AttentionBank.begin

    def noted(self, *call):
        begun = begin(self, *call)
        places[begun.place] = places.get(begun.place, 0) + 1
        return begun

    source_memory.AttentionBank.begin = noted
    edit_child.SIDE, edit_child.STEPS = FAMILIES[arguments["family"]][1], 3
    model, clip, _ = limited(arguments)
    run = edit_child.edited if arguments["edits"] else edit_child.plain
    try:
        run(model, clip, arguments["edits"])
    except torch.OutOfMemoryError as error:
        return {"places": places, "said": str(error)}
    return {"places": places, "peak": torch.xpu.max_memory_allocated()}


if __name__ == "__main__":
    answer(step, edit)
