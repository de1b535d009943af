"""One run of a sampler through source and edits: which attention wrapper is active at which call of the model."""

from __future__ import annotations

import contextlib
import logging

import comfy.model_management as mm
import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ..base.patches import attention_layers, wrap_attention
from ..base.rows import RowFinder, Windows, identify_rows
from .edits import TAG, Branch
from .injector import Injector
from .local_blend import LocalBlend
from .notices import Notices
from .opened import Opened, opened_at
from .photo import make_photo_source
from .recorder import Recorder, expected_bytes
from .source_memory import AttentionBank, Call, next_step_bytes

log = logging.getLogger(__name__)
KEY = "aai_p2p"
WRAPPERS = comfy.patcher_extension.WrappersMP


class BranchRun:
    """Lives as long as one call of the sampler by a node. The source is sampled first; each edit then answers its calls."""

    def __init__(self, guider, tag: Branch):
        self._guider, self._settings = guider, tag.settings
        tags = [entry[TAG] for entries in guider.conds.values() for entry in entries if TAG in entry]
        self._edits = [tag.edit for tag in tags if tag.edit is not None]
        self._notices = notices = Notices()
        self._finder = RowFinder()
        self._bank = AttentionBank(tag.settings.memory, guider.model_patcher.load_device)
        self._recorder = Recorder(self._bank, self._finder, tag.settings, notices)
        self._injector = Injector(self._finder, tag.settings, notices)
        self._blend = LocalBlend(tag, self._finder, notices)
        self._photo = make_photo_source(tag.photo)
        self._at_work: Recorder | Injector | None = None  # the attention wrapper that is active now
        self._looks = False  # whether the maps of words are added up now
        self._branch, self._index = 0, 0  # which branch is sampled, and the number of its current call
        self._source_entries: dict[int, dict] = {}
        self._ran_source: Tensor | None = None
        self._ends_clean = True

    @contextlib.contextmanager
    def installed(self):
        """Put this run's wrappers on the guider's options, which are a copy made for this run; free the memory at its end."""
        options = self._guider.model_options.setdefault("transformer_options", {})
        wrappers = {kind: dict(named) for kind, named in options.get("wrappers", {}).items()}
        # First, so that wrappers that only read attention (Watch Words) are outside.
        wrappers[WRAPPERS.SAMPLER_SAMPLE] = {KEY: [self._sample], **wrappers.get(WRAPPERS.SAMPLER_SAMPLE, {})}
        wrappers.setdefault(WRAPPERS.PREDICT_NOISE, {})[KEY] = [self._predict]
        options["wrappers"] = wrappers
        try:
            yield
        finally:
            self._at_work = None
            self._recorder.begin(None, Opened())
            self._injector.forget()
            self._blend.forget()
            self._bank.clear()

    def begin_branch(self, number: int) -> None:
        self._branch, self._index, self._at_work = number, 0, None

    def finish_branch(self, output: Tensor, source: Tensor | None, latent: Tensor) -> Tensor:
        """The branch's result; a photo's own latent is handed on bit for bit, and the blend's outside is the source's."""
        # Noise that the sampler was told to leave belongs to the result, also of a photo.
        forced = self._photo is not None and self._photo.forces and self._ends_clean
        if source is None:
            self._ran_source = output
            log.info("Prompt-to-prompt %s.", self._bank.report())
            return self._photo.latent(latent).to(output) if forced else output
        if forced:
            output = source + (output - self._ran_source)
        return self._blend.finish(output, source)

    def _sample(self, executor, guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs):
        """The host's SAMPLER_SAMPLE: conditionings are final here, and the options are this branch's own."""
        options = extra_args["model_options"].setdefault("transformer_options", {})
        rows = identify_rows(guider, options)
        self._finder.entries = {**self._finder.entries, **rows}
        self._windows = Windows(guider.inner_model.model_sampling)
        self._ends_clean = float(sigmas[-1]) == 0.0
        unet = guider.inner_model.diffusion_model
        self._blend.begin_branch(unet, tuple(noise.shape[-2:]))
        left = wrap_attention(options, unet, "attn1", self._self_attention)
        left += wrap_attention(options, unet, "attn2", self._cross_attention)
        if left:
            self._notices.warn(f"another node computes {left} attention layers in its own way, so the edit skips them")
        if self._branch == 0:
            ours = (entry for entry in guider.conds.get("positive", []) if entry["uuid"] in rows)
            self._source_entries = {rows[e["uuid"]][TAG].index: e for e in ours if TAG in rows[e["uuid"]]}
            self._injector.learn_source(self._source_entries)
            self._layers = attention_layers(unet)
            self._step_bytes = next_step_bytes(guider, noise.shape)
            if self._photo is not None:
                entries = list(self._source_entries.values())
                self._photo.prepare(guider, entries, sigmas, extra_args, noise, latent_image)
        if self._photo is not None:
            noise = self._photo.starting_noise(noise)
        with self._controls() if self._branch else contextlib.nullcontext():
            return executor(guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)

    @contextlib.contextmanager
    def _controls(self):
        """The source's ControlNets, which the host puts away after the source, ready for calls that are computed again."""
        controls = [entry["control"] for entry in self._source_entries.values() if "control" in entry]
        if not controls or not self._bank.recomputes:
            yield
            return
        models = {id(model): model for control in controls for model in control.get_models()}
        mm.load_models_gpu([self._guider.model_patcher, *models.values()], memory_required=self._step_bytes)
        comfy.samplers.pre_run_control(self._guider.inner_model, list(self._source_entries.values()))
        try:
            yield
        finally:
            for control in controls:
                control.cleanup()

    def _predict(self, executor, x, timestep, model_options=None, seed=None, **kwargs):
        """The host's PREDICT_NOISE: one call of the sampler."""
        sigma = float(timestep.flatten()[0])
        opened = opened_at(sigma, self._windows, self._edits, self._settings)
        predict = self._predict_edit if self._branch else self._predict_source
        try:
            return predict(
                lambda: executor(x, timestep, model_options or {}, seed, **kwargs), x, sigma, opened, model_options
            )
        finally:
            self._at_work, self._looks = None, False
            self._index += 1

    def _predict_source(self, run, x: Tensor, sigma: float, opened: Opened, model_options) -> Tensor:
        model, entries = self._guider.inner_model, list(self._source_entries.values())
        expected = expected_bytes(model, self._layers, x, entries, opened, self._settings)
        call = self._bank.begin(sigma, expected, self._step_bytes)
        if call.place == "recompute":
            call.x = x.clone()
        self._recorder.begin(call, opened)
        self._at_work, self._looks = self._recorder, True
        denoised = run()
        call.maps = self._blend.maps()
        forced = self._photo is not None and self._photo.forces
        if forced or self._blend.acts:
            call.denoised = denoised
        return self._photo.denoised(sigma) if forced else denoised

    def _predict_edit(self, run, x: Tensor, sigma: float, opened: Opened, model_options) -> Tensor:
        call = self._bank.at(self._index, sigma)
        if call.place == "recompute" and (opened.cross or opened.self_attention):
            call = self._recompute(call, x, opened, model_options or {})
        self._injector.begin(call, opened)
        self._at_work, self._looks = self._injector, True
        denoised = run()
        reference = call.denoised
        if self._photo is not None and self._photo.forces:
            reference = self._photo.denoised(call.sigma)
            denoised = reference + (denoised - call.denoised)
        if not self._blend.acts:
            return denoised
        return self._blend.blend(denoised, reference, call.maps, self._windows, sigma)

    def _recompute(self, call: Call, x: Tensor, opened: Opened, model_options: dict) -> Call:
        """Evaluate the source's conditioning again where its attention was not kept."""
        again = Call(call.sigma, "device", x=call.x, denoised=call.denoised, maps=call.maps)
        self._recorder.begin(again, opened)
        self._at_work = self._recorder
        sigma = torch.full((x.shape[0],), call.sigma, device=x.device, dtype=torch.float32)
        entries = list(self._source_entries.values())
        comfy.samplers.calc_cond_batch(self._guider.inner_model, [entries], call.x, sigma, model_options)
        return again

    def _cross_attention(self, inner):
        def attend(q, k, v, extra):
            if self._looks:
                self._blend.look(q, k, extra)
            at_work = self._at_work
            return inner(q, k, v, extra) if at_work is None else at_work.cross(inner, q, k, v, extra)

        return attend

    def _self_attention(self, inner):
        def attend(q, k, v, extra):
            at_work = self._at_work
            return inner(q, k, v, extra) if at_work is None else at_work.self_attention(inner, q, k, v, extra)

        return attend
