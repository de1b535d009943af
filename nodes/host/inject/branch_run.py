"""One run of a sampler through source and edits: what is recorded at each call of the model, and what is injected."""

from __future__ import annotations

import contextlib
import logging

import comfy.patcher_extension
import comfy.samplers
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.inject.attention import ColumnMix, column_maps, scale_columns, source_values
from ....aai_models.inject.blend import local_blend, word_mask
from ..base.patches import attention_layers, nearest_factor, plain_attention, wrap_attention
from ..base.rows import identify_rows, is_open, prompt_length, rows_in_call
from .edits import TAG, Branch
from .photo import make_photo_source
from .source_memory import AttentionBank, Call, attention_bytes

log = logging.getLogger(__name__)
KEY = "aai_p2p"
WRAPPERS = comfy.patcher_extension.WrappersMP
BLEND_FACTOR = 4  # local blend looks at the maps of the layers that are about so much smaller than the latent


class BranchRun:
    """Lives as long as one call of the sampler by a node."""

    def __init__(self, guider, tag: Branch):
        self._guider, self._settings = guider, tag.settings
        self._blends = tag.blend_mask is not None or bool(tag.settings.blend_words.strip())
        self._blend_mask = tag.blend_mask
        self._photo = make_photo_source(tag.photo)
        self._bank = AttentionBank(tag.settings.memory, guider.model_patcher.load_device)
        self._edits: list = []
        for entries in guider.conds.values():
            self._edits += [e[TAG].edit for e in entries if TAG in e and e[TAG].edit is not None]
        self._branch, self._mode = 0, "off"
        self._call: Call | None = None
        self._index = 0
        self._seen: dict[tuple, int] = {}
        self._rows: dict = {}
        self._source_entries: dict[int, dict] = {}
        self._mixes: dict[tuple, ColumnMix] = {}
        self._wants_cross = self._wants_self = False
        self._sigma = 0.0
        self._maps: Tensor | None = None
        self._mask: Tensor | None = None
        self._blend_factor = BLEND_FACTOR
        self._warned: set[str] = set()

    @contextlib.contextmanager
    def installed(self):
        """Put this run's wrappers on the guider's options, which are a copy made for this run; free the bank at its end."""
        options = self._guider.model_options.setdefault("transformer_options", {})
        wrappers = {kind: dict(named) for kind, named in options.get("wrappers", {}).items()}
        # First, so that those who only look at attention (Watch Words) look from outside.
        wrappers[WRAPPERS.SAMPLER_SAMPLE] = {KEY: [self._sample], **wrappers.get(WRAPPERS.SAMPLER_SAMPLE, {})}
        wrappers.setdefault(WRAPPERS.PREDICT_NOISE, {})[KEY] = [self._predict]
        options["wrappers"] = wrappers
        try:
            yield
        finally:
            self._mode, self._call, self._maps = "off", None, None
            self._bank.clear()

    def begin_branch(self, number: int) -> None:
        self._branch, self._index, self._mode = number, 0, "off"
        self._maps = self._mask = None
        self._mixes.clear()

    def finish_branch(self, output: Tensor, source: Tensor | None, latent: Tensor) -> Tensor:
        """The branch's result; a photo's own latent is handed on bit for bit, and the blend's outside is the source's."""
        if source is None:
            self._ran_source = output
            log.info("Prompt-to-prompt %s.", self._bank.report())
            return latent.to(output) if self._photo is not None and self._photo.forces else output
        if self._photo is not None and self._photo.forces:
            output = source + (output - self._ran_source)
        if self._blends and self._mask is not None:
            output = local_blend(output, source, self._mask.to(output.device))
        return output

    def _sample(self, executor, guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs):
        """The host's SAMPLER_SAMPLE: conditionings are final here, and the options are this branch's own."""
        options = extra_args["model_options"].setdefault("transformer_options", {})
        self._rows = {**self._rows, **identify_rows(guider, options)}
        unet = guider.inner_model.diffusion_model
        self._blend_factor = nearest_factor(unet, BLEND_FACTOR)
        wrap_attention(options, unet, "attn1", self._self_attention)
        wrap_attention(options, unet, "attn2", self._cross_attention)
        if self._branch == 0:
            ours = (entry for entry in guider.conds.get("positive", []) if entry["uuid"] in self._rows)
            self._source_entries = {self._rows[e["uuid"]][TAG].index: e for e in ours if TAG in self._rows[e["uuid"]]}
            if self._photo is not None:
                self._photo.prepare(
                    guider, list(self._source_entries.values()), sigmas, extra_args, noise, latent_image
                )
        if self._photo is not None:
            noise = self._photo.starting_noise(noise)
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)

    def _predict(self, executor, x, timestep, model_options=None, seed=None, **kwargs):
        """The host's PREDICT_NOISE: one call of the sampler."""
        model_options = model_options or {}
        self._sigma = float(timestep.flatten()[0])
        self._seen.clear()
        try:
            if self._branch == 0:
                return self._predict_source(executor, x, timestep, model_options, seed, **kwargs)
            return self._predict_edit(executor, x, timestep, model_options, seed, **kwargs)
        finally:
            self._mode = "off"
            self._index += 1

    def _predict_source(self, executor, x, timestep, model_options, seed, **kwargs) -> Tensor:
        self._open_windows()
        self._call = call = self._bank.begin(self._sigma, self._expected_bytes(x))
        if call.place == "recompute":
            call.x = x.clone()
        self._mode = "record"
        denoised = executor(x, timestep, model_options, seed, **kwargs)
        call.maps = None if self._maps is None else self._maps.clone()
        if self._photo is not None and self._photo.forces:
            call.denoised = denoised
            return self._photo.denoised(self._sigma)
        if self._blends:
            call.denoised = denoised
        return denoised

    def _expected_bytes(self, x: Tensor) -> int:
        """What this call is going to keep of the source's attention."""
        model = self._guider.inner_model
        element = (model.manual_cast_dtype or model.get_dtype()).itemsize
        downsample = self._settings.self_downsample if self._wants_self else None
        layers, size = attention_layers(model.diffusion_model), tuple(x.shape[-2:])
        return x.shape[0] * sum(
            attention_bytes(layers, size, prompt_length(entry), element, self._wants_cross, downsample)
            for entry in self._source_entries.values()
        )

    def _predict_edit(self, executor, x, timestep, model_options, seed, **kwargs) -> Tensor:
        self._call = call = self._bank.at(self._index, self._sigma)
        self._open_windows()
        if call.place == "recompute" and (self._wants_cross or self._wants_self):
            call = self._call = self._recompute(call, timestep, model_options)
        self._mode = "inject"
        denoised = executor(x, timestep, model_options, seed, **kwargs)
        reference = call.denoised
        if self._photo is not None and self._photo.forces:
            reference = self._photo.denoised(call.sigma)
            denoised = reference + (denoised - call.denoised)
        return self._blend(denoised, reference, call) if self._blends else denoised

    def _recompute(self, call: Call, timestep: Tensor, model_options: dict) -> Call:
        """Evaluate the source's conditioning again where its attention was not kept."""
        again = Call(call.sigma, "device", x=call.x, denoised=call.denoised, maps=call.maps)
        self._call, self._mode = again, "record"
        accumulated = self._maps
        sigma = torch.full_like(timestep, call.sigma)
        entries = list(self._source_entries.values())
        comfy.samplers.calc_cond_batch(self._guider.inner_model, [entries], call.x, sigma, model_options)
        self._maps = accumulated
        self._seen.clear()
        return again

    def _open_windows(self) -> None:
        """What is to be recorded or injected at this sigma."""
        self._mixes.clear()
        self._wants_cross = any(
            bool((self._active(edit.starts, edit.ends) & edit.matrix.ne(0).any(dim=0)).any()) for edit in self._edits
        )
        settings = self._settings
        limits = (torch.tensor([settings.self_start]), torch.tensor([settings.self_end]))
        self._wants_self = bool(self._active(*limits).any())

    def _active(self, starts: Tensor, ends: Tensor) -> Tensor:
        """Which windows, in percent, are open at the present sigma."""
        sampling = self._guider.inner_model.model_sampling
        pairs = list(zip(starts.tolist(), ends.tolist(), strict=True))
        opened = {pair: is_open(sampling, *pair, self._sigma) for pair in set(pairs)}
        return torch.tensor([opened[pair] for pair in pairs])

    def _cross_attention(self, inner):
        def attend(q, k, v, extra):
            if self._mode == "record":
                self._record("cross", q, k, extra, self._wants_cross)
                self._look(q, k, extra)
            elif self._mode == "inject":
                self._look(q, k, extra)
                return self._inject_cross(inner, q, k, v, extra)
            return inner(q, k, v, extra)

        return attend

    def _self_attention(self, inner):
        def attend(q, k, v, extra):
            if self._mode != "off" and self._wants_self and self._is_small(q, extra):
                if self._mode == "record":
                    self._record("self", q, k, extra, True)
                else:
                    q, k = self._inject_self(q, k, extra)
            return inner(q, k, v, extra)

        return attend

    def _is_small(self, q: Tensor, extra: dict) -> bool:
        return q.shape[1] <= tokens_at(extra, self._settings.self_downsample)

    def _record(self, kind: str, q: Tensor, k: Tensor, extra: dict, wanted: bool) -> None:
        if not wanted or self._call.place == "recompute":
            return
        for rows, tag in self._tagged_rows(q, extra):
            self._bank.store(self._call, _layer(kind, extra, tag.index), q[rows], k[rows])

    def _tagged_rows(self, q: Tensor, extra: dict):
        for rows, identity in rows_in_call(extra, q.shape[0]):
            tag = self._rows.get(identity, {}).get(TAG)
            if tag is not None:
                yield rows, tag

    def _read(self, kind: str, q: Tensor, extra: dict, tag: Branch) -> tuple[Tensor, Tensor] | None:
        """The source's q and k for a layer of an edit, or None where they do not fit what another pack made of it."""
        layer = _layer(kind, extra, tag.edit.source)
        occurrence = self._seen.get((tag.index, *layer), 0)
        self._seen[(tag.index, *layer)] = occurrence + 1
        found = self._call.read(layer, occurrence, q.device)
        if found is None or found[0].shape[1:] != q.shape[1:] or q.shape[0] % found[0].shape[0]:
            reason = "was not computed for the source" if found is None else "has another size than the source's"
            where = f"{kind}-attention of {extra.get('block')}"
            self._warn(
                f"{where} {reason}, so the edit goes on without it; another node changes it between runs", reason
            )
            return None
        repeats = q.shape[0] // found[0].shape[0]
        return tuple(x.repeat(repeats, 1, 1) for x in found) if repeats > 1 else found

    def _inject_cross(self, inner, q, k, v, extra) -> Tensor:
        """Eq. 7 for the rows of this edit; all others keep their bits."""
        parts, values, new_q, new_k = [], v, q, k
        for rows, tag in self._tagged_rows(q, extra):
            mix = self._mix(tag, extra)
            if mix is None or mix.neutral:
                continue
            source = self._read("cross", q[rows], extra, tag) if bool(mix.source.any()) else None
            if source is None and bool(mix.source.any()):
                continue
            values = v.clone() if values is v else values
            if source is None:
                values[rows] = scale_columns(v[rows], mix.own)
                continue
            gathered = source_values(v[rows], mix, source[1].shape[1])
            if inner is plain_attention and gathered.shape[1] == k.shape[1] and not bool(mix.own.any()):
                # Nothing of its own is left: one call with the source's shapes, so that even rounding is the source's.
                if new_q is q:
                    new_q, new_k = q.clone(), k.clone()
                new_q[rows], new_k[rows], values[rows] = *source, gathered
            else:
                values[rows] = scale_columns(v[rows], mix.own)
                parts.append((rows, source, gathered))
        out = inner(new_q, new_k, values, extra)
        for rows, (q_source, k_source), gathered in parts:
            out[rows] += plain_attention(q_source, k_source, gathered, extra)
        return out

    def _inject_self(self, q, k, extra) -> tuple[Tensor, Tensor]:
        new_q, new_k = q, k
        for rows, tag in self._tagged_rows(q, extra):
            source = self._read("self", q[rows], extra, tag)
            if source is None or source[1].shape[1] != k.shape[1]:
                continue
            if new_q is q:
                new_q, new_k = q.clone(), k.clone()
            new_q[rows], new_k[rows] = source
        return new_q, new_k

    def _mix(self, tag: Branch, extra: dict) -> ColumnMix | None:
        """The mix of one conditioning at this sigma."""
        key = (tag.index,)
        if key not in self._mixes:
            entry = next(e for e in self._rows.values() if e.get(TAG) is tag)
            edit, source = tag.edit, self._source_entries.get(tag.edit.source)
            if source is None:
                return None
            active = self._active(edit.starts, edit.ends)
            self._mixes[key] = edit.mix(active, prompt_length(source), prompt_length(entry))
        return self._mixes[key]

    def _look(self, q: Tensor, k: Tensor, extra: dict) -> None:
        """Add up the maps of the words of local blend."""
        if not self._settings.blend_words.strip() or q.shape[1] != tokens_at(extra, self._blend_factor):
            return
        height, width = extra["original_shape"][-2:]
        for rows, tag in self._tagged_rows(q, extra):
            if not tag.blend_columns:
                continue
            entry = next(e for e in self._rows.values() if e.get(TAG) is tag)
            maps = column_maps(q[rows], k[rows], extra["n_heads"], list(tag.blend_columns), prompt_length(entry)).sum(
                -1
            )
            maps = maps.unflatten(1, tuple(-(-side // self._blend_factor) for side in (height, width)))
            self._maps = maps if self._maps is None or self._maps.shape != maps.shape else self._maps + maps

    def _blend(self, denoised: Tensor, source: Tensor, call: Call) -> Tensor:
        if not bool(self._active(torch.tensor([self._settings.blend_start]), torch.tensor([1.0])).all()):
            return denoised
        size = tuple(denoised.shape[-2:])
        if self._blend_mask is not None:
            mask = F.interpolate(self._blend_mask.unsqueeze(1).float(), size=size, mode="bilinear") > 0.5
            mask = mask.expand(denoised.shape[0], -1, -1, -1) if mask.shape[0] == 1 else mask
        else:
            masks = [
                word_mask(m, size, self._settings.blend_threshold) for m in (call.maps, self._maps) if m is not None
            ]
            if not masks:
                self._warn("local blend found no layer to look at; the whole picture may change")
                return denoised
            mask = torch.stack([m.to(denoised.device) for m in masks]).any(dim=0)
        self._mask = mask.to(denoised.device)
        return local_blend(denoised, source, self._mask)

    def _warn(self, text: str, reason: str | None = None) -> None:
        """Say it once a run; of what has one reason in many layers, only the first."""
        if (reason or text) not in self._warned:
            self._warned.add(reason or text)
            log.warning("Prompt-to-prompt: %s.", text)


def _layer(kind: str, extra: dict, index: int) -> tuple:
    return (kind, extra.get("block"), extra.get("block_index"), index)


def tokens_at(extra: dict, factor: int) -> int:
    """Picture tokens of a layer that is `factor` times smaller than the latent."""
    height, width = extra["original_shape"][-2:]
    return -(-height // factor) * -(-width // factor)
