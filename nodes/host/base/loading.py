"""Loading of this pack's own models by the host."""

from __future__ import annotations

import comfy.model_management as mm
import torch


def load_model(patcher, **room) -> None:
    """Have the host load a model; `room` is what `load_models_gpu` takes. Raises when the run is cancelled.

    In inference mode wherever the caller is: PyTorch gives no views of a weight that was made in it and moved outside.
    """
    mm.throw_exception_if_processing_interrupted()
    with torch.inference_mode():
        mm.load_models_gpu([patcher], **room)
