"""The host's diffusion model and text encoders while a word is trained through them: whole, frozen, as they were afterwards."""

from __future__ import annotations

import contextlib

import comfy.model_management as mm
import torch

from ....aai_models.errors import TrainingError
from .autograd import frozen_aliases, gradients, out_of_place
from .memory import GIGABYTE, PLAIN, is_out_of_memory, recomputed


class FrozenModels:
    """What `frozen` gives: a diffusion model that stays on its device, and text encoders that may leave it for a while."""

    def __init__(self, diffusion, clip):
        self.diffusion, self.clip = diffusion, clip
        self._text = contextlib.ExitStack()
        self._is_ready = False
        self.is_thrifty = False  # whether layers of the text encoders are computed again on the way back
        self.releases_text = False  # whether they leave the device while the diffusion model works

    @property
    def device(self) -> torch.device:
        return self.diffusion.load_device

    @property
    def network(self) -> torch.nn.Module:
        return self.diffusion.model.diffusion_model

    @property
    def encoder(self) -> torch.nn.Module:
        return self.clip.patcher.model

    def text_ready(self) -> None:
        """Have the text encoders on their device, ready for gradients."""
        if self._is_ready:
            return
        with torch.inference_mode():
            load_whole([self.diffusion, self.clip.patcher])
        try:
            self._prepare_text()
        except Exception as error:
            if self.is_thrifty or not is_out_of_memory(error):
                raise
            self.is_thrifty = True
        if not self._is_ready:  # only here has the error let go of what was copied
            mm.soft_empty_cache()
            self._prepare_text()

    def _prepare_text(self) -> None:
        """Ready the layers of the text encoders, which are on their device, for gradients."""
        with contextlib.ExitStack() as stack:
            # The host computes texts in fp32; what autograd would keep of each use is made once (SDXL: 3.3 GB).
            stack.enter_context(frozen_aliases(self.encoder, dtype=None if self.is_thrifty else torch.float32))
            stack.enter_context(out_of_place(self.encoder))
            if self.is_thrifty:
                stack.enter_context(recomputed(self.encoder))
            self._text = stack.pop_all()
        self._is_ready = True

    def text_released(self) -> None:
        """Let the host take the text encoders, and whatever else is there, off the device."""
        if not self._is_ready:
            return
        self.text_closed()
        with torch.inference_mode():
            kept = [loaded for loaded in mm.current_loaded_models if loaded.model is self.diffusion]
            mm.free_memory(1e30, self.device, keep_loaded=kept)

    def text_closed(self) -> None:
        """Put the text encoders' own weights and layers back."""
        self._is_ready = False
        self._text.close()


@contextlib.contextmanager
def frozen(model, clip, shape: list[int] | None = None):
    """Load both as a whole, with room for steps on latents of `shape`, and give `FrozenModels` with gradients switched on.

    Raises `TrainingError` for models that cannot be had as a whole. On every way out the host's own weights, flags and
    options are what they were.
    """
    diffusion, clip = whole_clone(model, "MODEL"), whole_clip(clip)
    needed = PLAIN * diffusion.memory_required(shape) if shape else 0.0
    models = FrozenModels(diffusion, clip)
    with (
        whole([diffusion, clip.patcher], needed),
        gradients(),
        _text_options(clip),
        frozen_aliases(diffusion.model),
    ):
        diffusion.pre_run()
        try:
            models.text_ready()
            yield models
        finally:
            models.text_closed()
            diffusion.cleanup()


@contextlib.contextmanager
def frozen_text(clip, **options):
    """The same for text encoders alone; gives a CLIP to encode with. `options` are the host's, for its text encoders."""
    clip = whole_clip(clip)
    encoder = clip.cond_stage_model
    with (
        whole([clip.patcher]),
        gradients(),
        _text_options(clip, **options),
        frozen_aliases(encoder, dtype=torch.float32),
        out_of_place(encoder),
    ):
        yield clip


def whole_clone(patcher, what: str):
    """A clone whose weights lie in memory as a whole; hosts that stream weights need to be asked for it."""
    try:
        return patcher.clone(disable_dynamic=True)
    except TypeError:
        return patcher.clone()
    except RuntimeError as error:
        raise TrainingError(
            f"The node that loaded the {what} gives its weights only in pieces ({error})",
            "Training needs whole weights",
            "Load it with one of ComfyUI's own loaders, or start ComfyUI with --disable-dynamic-vram",
        ) from None


def whole_clip(clip):
    """A clone of a CLIP whose text encoders lie in memory as a whole."""
    if not getattr(clip.patcher, "is_dynamic", lambda: False)():
        return clip.clone()
    clone = clip.clone()
    clone.patcher = whole_clone(clip.patcher, "CLIP")
    clone.cond_stage_model = clone.patcher.model  # a model of its own, which the host's own clone would leave out
    return clone


@contextlib.contextmanager
def whole(patchers: list, needed: float = 0.0):
    """Models in full on their devices, as `load_whole` puts them there."""
    try:
        # In inference mode, where the host always loads: a move outside of it would spoil its weights for all that follows.
        with torch.inference_mode():
            load_whole(patchers, needed)
        yield
    finally:
        if mm.vram_state is mm.VRAMState.NO_VRAM:  # where the host leaves next to nothing on a device
            _take_off(patchers)


def _take_off(patchers: list) -> None:
    others = [loaded for loaded in mm.current_loaded_models if loaded.model not in patchers]
    with torch.inference_mode():
        for device in {patcher.load_device for patcher in patchers}:
            mm.free_memory(1e30, device, keep_loaded=others)


def load_whole(patchers: list, needed: float = 0.0) -> None:
    """Load models in full with `needed` bytes beside them; raises `TrainingError` where there is no room."""
    try:
        mm.load_models_gpu(patchers, memory_required=needed, force_full_load=True)
        for patcher in patchers:
            # With --novram the host leaves weights in RAM all the same.
            if getattr(patcher.model, "model_lowvram", False):
                patcher.partially_load(patcher.load_device, 1 + patcher.model_size())
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Only here has the error let go of what was loaded.
    size = sum(patcher.model_size() for patcher in patchers) / GIGABYTE
    raise TrainingError(
        f"The model and its text encoder need {size:.1f} GB, more than the available memory",
        "Training needs both completely in memory",
        "Load the model in fp8, use a smaller one, or close other programs",
    )


@contextlib.contextmanager
def _text_options(clip, **options):
    encoder = clip.cond_stage_model
    encoder.reset_clip_options()
    if clip.layer_idx is not None:
        encoder.set_clip_options({"layer": clip.layer_idx})
    encoder.set_clip_options({"execution_device": clip.patcher.load_device, **options})
    try:
        yield
    finally:
        encoder.reset_clip_options()
