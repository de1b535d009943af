"""A ComfyUI in this process, without a server, for exact comparisons. Runs in a host's Python with its tree on `sys.path`."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

from . import device


def boot(base: Path) -> str:
    """Configure the ComfyUI of this process before anything else of it is imported; `base` is its folder.

    Returns how it keeps its weights: "whole" or "dynamic".
    """
    import comfy.options

    comfyui = Path(comfy.options.__file__).parents[1]
    before, sys.argv = sys.argv, ["main.py", *device.arguments(comfyui), "--base-directory", str(base)]
    comfy.options.enable_args_parsing()
    try:
        import comfy.cli_args
    finally:
        sys.argv = before
    return "dynamic" if _make_dynamic(comfy.cli_args) else "whole"


def _make_dynamic(cli_args) -> bool:
    """What the host's main.py does by default on an NVIDIA card, in its order; False where it would not."""
    if not getattr(cli_args, "enables_dynamic_vram", bool)():
        return False
    import comfy_aimdo.control as aimdo

    try:
        aimdo.init(simple_vram_headroom=None, nvml_pressure=True)
    except TypeError:  # versions before it took these
        aimdo.init()
    import comfy.memory_management
    import comfy.model_management as mm
    import comfy.model_patcher

    if not mm.is_nvidia() or mm.is_wsl() or mm.torch_version_numeric < (2, 8):
        return False
    room = int(getattr(cli_args.args, "vram_headroom", 0) * 1024**3)
    try:
        ready = aimdo.init_devices((d.index, room) for d in mm.get_all_torch_devices())
    except TypeError:
        ready = aimdo.init_devices(d.index for d in mm.get_all_torch_devices())
    if ready:
        aimdo.set_log_warning()  # it tells each allocation otherwise
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
    return bool(ready)


@contextlib.contextmanager
def whole_weights():
    """Layers made inside have their weights at once, also where this host makes them late: for models without a file."""
    if importlib.util.find_spec("comfy.memory_management") is None:
        yield
        return
    import comfy.memory_management as memory

    before = getattr(memory, "aimdo_enabled", False)
    memory.aimdo_enabled = False
    try:
        yield
    finally:
        memory.aimdo_enabled = before


def patcher(network, *, disable_dynamic: bool = False):
    """A network as the host's loaders hand it out: on this run's device, streamed or whole as its weights are here."""
    import comfy.model_management as mm
    import comfy.model_patcher

    whole = comfy.model_patcher.ModelPatcher
    kind = whole if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", whole)
    return kind(network, mm.get_torch_device(), mm.unet_offload_device())


def text_encoders(config, options: dict, *, disable_dynamic: bool = False):
    """The CLIP of a family of the host, `config`, without weights; `options` as its loaders take them."""
    import comfy.sd

    takes_argument = config.clip_target.__code__.co_argcount > 1
    target = config.clip_target({}) if takes_argument else config.clip_target()
    whole = {"disable_dynamic": True} if disable_dynamic else {}  # older hosts have no such argument
    return comfy.sd.CLIP(
        target, embedding_directory=[], tokenizer_data={}, parameters=0, model_options=options, **whole
    )


def reloadable(make, *described):
    """(model, clip, vae) of `make(*described, disable_dynamic=False)`; where the host streams weights it can have whole
    copies of model and text encoders, as of those that it read from a file."""

    def again(disable_dynamic: bool = False):
        model, clip, _ = make(*described, disable_dynamic=disable_dynamic)
        return model, clip.patcher

    model, clip, vae = make(*described)
    for place, streamed in enumerate((model, clip.patcher)):
        streamed.cached_patcher_init = (again, (), place)
    return model, clip, vae
