"""CAVT-MAE as a model of the host: built from its layers, loaded and offloaded by it."""

from __future__ import annotations

import os

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
from torch import Tensor

from ...aai_models.align.cavt_mae import CAVTMAE, encoder_tensors, self_test
from ...aai_models.errors import CheckpointError

BATCH = 8  # spectrograms in one pass; between passes a run can be cancelled


class HostedCAVT:
    """An encoder in ComfyUI's care. `patcher` is what the host loads, moves and counts."""

    def __init__(self, model: CAVTMAE, name: str):
        device, offload = mm.text_encoder_device(), mm.text_encoder_offload_device()
        # Absent before dynamic weight loading came; the plain class serves both.
        patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        self.model, self.name = model, name
        self.patcher = patcher_class(model, load_device=device, offload_device=offload)

    @property
    def dim(self) -> int:
        return self.model.config.dim

    def get_ram_usage(self) -> int:
        """Bytes of the weights, for the host's cache."""
        return comfy.model_management.module_size(self.model)

    def encode_audio(self, fbank: Tensor) -> Tensor:
        """Spectrograms (B, 1024, 128) -> unit vectors (B, D), float32, CPU."""
        activations = min(BATCH, fbank.shape[0]) * self.model.config.audio_tokens * self.model.config.mlp_dim * 4
        mm.load_models_gpu([self.patcher], memory_required=6 * activations)
        progress = comfy.utils.ProgressBar(fbank.shape[0])
        features = []
        for batch in fbank.split(BATCH):
            mm.throw_exception_if_processing_interrupted()
            features.append(self.model.encode_audio(batch.to(self.patcher.load_device, torch.float32)).cpu())
            progress.update(batch.shape[0])
        return torch.cat(features)


def load(path: str) -> HostedCAVT:
    """Read a CAVT-MAE file and hand it to the host. Raises `CheckpointError` for anything else."""
    name = os.path.basename(path)
    tensors = encoder_tensors(_read(path, name))
    dtype = mm.text_encoder_dtype(mm.text_encoder_device())
    # A file in fp32 keeps its precision where the host would not gain from less.
    if mm.text_encoder_device().type == "cpu":
        dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    model = CAVTMAE.from_state_dict(
        tensors, operations=comfy.ops.manual_cast, dtype=dtype, device=mm.text_encoder_offload_device()
    )
    hosted = HostedCAVT(model, name)
    self_test(hosted.encode_audio)
    return hosted


def _read(path: str, name: str) -> dict:
    try:
        state_dict = comfy.utils.load_torch_file(path, safe_load=True)
    except Exception as error:
        raise CheckpointError(
            f"{name} cannot be read as a model file ({type(error).__name__})",
            "It must be a .safetensors file, or a .pth file that holds tensors alone",
            "Fetch the file again; if it is a .pth with code in it, convert it where you trust it",
        ) from None
    if not isinstance(state_dict, dict):
        raise CheckpointError(f"{name} holds a {type(state_dict).__name__}", "It must hold named tensors")
    return state_dict
