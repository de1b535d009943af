"""Eq. 8 in the host: the columns of a word times a scale, on the model (batched) or on the conditioning alone."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass

import comfy.hooks
import comfy.patcher_extension
import torch
from torch import Tensor

from ....aai_models.audio.loudness import LARGEST_SCALE, integrated, momentary, to_scale
from ....aai_models.audio.waveform import as_waveform
from ....aai_models.errors import EditError
from ....aai_models.inject.attention import scale_columns
from ..base.patches import add_patch, require_unet, with_wrapper
from ..base.prompt_words import COND_KEY
from ..base.rows import identify_rows, is_open, prompt_length, rows_in_call
from .edits import check_window, known_words, require_columns, words_of

log = logging.getLogger(__name__)
KEY = "aai_loudness"
SCALES = "aai_scales"  # on each conditioning: (WordScale, ...)
WRAPPERS = comfy.patcher_extension.WrappersMP


@dataclass(frozen=True)
class WordScale:
    """A scale for some columns of a prompt in a window of percents."""

    columns: tuple[int, ...]
    factor: float  # in [0, 2]
    start: float
    end: float


def scale_of(audio, lufs: float | None, mapping: str, reference: float, manual: float) -> float:
    """The scale that a sound, its loudness, or a number asks for; raises `EditError` if there is none."""
    if mapping == "manual":
        return checked_scale(manual)
    if audio is not None:
        waveform, sample_rate = as_waveform(audio)
        lufs = float(integrated(waveform, sample_rate)[0])
    if lufs is None:
        raise EditError(
            f"The mapping is {mapping}, but there is no sound",
            "It maps a loudness to a scale",
            "Connect audio or lufs, or choose manual",
        )
    return checked_scale(to_scale(float(lufs), mapping, reference))


def checked_scale(scale: float) -> float:
    """A finite scale, clamped to [0, 2] with a word in the log."""
    if not math.isfinite(scale):
        raise EditError(f"The scale is {scale}", "It is a number from 0 to 2", "Look at what is connected to it")
    clamped = min(max(float(scale), 0.0), LARGEST_SCALE)
    if clamped != scale:
        log.warning("Loudness scale %g lies outside 0 to 2 and was set to %g.", scale, clamped)
    return clamped


def scaled(conditioning: list, words: str, factor: float, start: float, end: float, base: str) -> list:
    """The conditioning with its words marked for scaling; the same one for a factor of 1."""
    check_window(start, end, "scale")
    if factor == 1.0 or start == end:
        return conditioning
    marked = []
    for cond, extra in conditioning:
        known = known_words(cond, extra, "connected")
        columns = sorted({c for phrase in words_of(words) for c in require_columns(known, phrase, "words")})
        scales = (*extra.get(SCALES, ()), WordScale(tuple(columns), factor, start, end))
        if base == "own":  # prompt-to-prompt then leaves these words their own maps
            known = {**known, "kept": sorted({*known.get("kept", ()), *columns})}
        marked.append([cond, {**extra, SCALES: scales, COND_KEY: known}])
    return marked


def patched(model):
    """A clone of a ModelPatcher whose samplers obey the marks of `scaled`."""
    require_unet(model)
    return with_wrapper(model, WRAPPERS.SAMPLER_SAMPLE, KEY, _sample)


def _sample(executor, guider, sigmas, extra_args, *args, **kwargs):
    options = extra_args["model_options"].setdefault("transformer_options", {})
    rows = identify_rows(guider, options)
    if any(SCALES in entry for entry in rows.values()):
        add_patch(options, "attn2_patch", _row_patch(rows, guider.inner_model.model_sampling))
    return executor(guider, sigmas, extra_args, *args, **kwargs)


def _row_patch(rows: dict, sampling):
    """Scales the value rows of those rows of the batch that are marked."""

    def patch(n, context, value, extra):
        sigma = None
        for where, identity in rows_in_call(extra, value.shape[0]):
            entry = rows.get(identity, {})
            if SCALES not in entry:
                continue
            sigma = float(extra["sigmas"].flatten()[0]) if sigma is None else sigma
            scale = column_scale(entry[SCALES], prompt_length(entry), sampling, sigma)
            if scale is not None:
                value = value.clone() if value is context else value
                value[where] = scale_columns(value[where], scale)
        return n, context, value

    return patch


def column_scale(scales: tuple[WordScale, ...], length: int, sampling, sigma: float) -> Tensor | None:
    """(length,) product of the scales that are open at `sigma`; None where there is none."""
    total = torch.ones(length)
    for scale in scales:
        if is_open(sampling, scale.start, scale.end, sigma):
            total[[c for c in scale.columns if c < length]] *= scale.factor
    return None if bool((total == 1).all()) else total


def hooked(conditioning: list) -> list:
    """The marks of `scaled` turned into hooks, which need no patch on the model; conditionings are then not batched."""
    result = []
    for cond, extra in conditioning:
        scales = extra.get(SCALES, ())
        plain = {key: value for key, value in extra.items() if key != SCALES}
        for start, end in _pieces(scales, plain.get("start_percent", 0.0), plain.get("end_percent", 1.0)):
            active = [s for s in scales if s.start <= start and end <= s.end]
            piece = [[cond, dict(plain)]]
            if scales:
                piece[0][1].update(start_percent=start, end_percent=end)
            if active:
                factor = torch.ones(cond.shape[1])
                for scale in active:
                    factor[[c for c in scale.columns if c < cond.shape[1]]] *= scale.factor
                piece = comfy.hooks.set_hooks_for_conditioning(piece, _hook(factor))
            result += piece
    return result


def _pieces(scales: tuple[WordScale, ...], first: float, last: float) -> list[tuple[float, float]]:
    """The run from `first` to `last`, cut where a scale opens or closes."""
    edges = sorted({first, last, *(e for s in scales for e in (s.start, s.end) if first < e < last)})
    # The host includes both ends of a range; a step that falls on a cut belongs to the later piece, as in `is_open`.
    pieces = [(start, end if end == last else end - 1e-5) for start, end in itertools.pairwise(edges)]
    return pieces or [(first, last)]


def _hook(factor: Tensor) -> comfy.hooks.HookGroup:
    def patch(n, context, value, extra):
        return n, context, scale_columns(value, factor)

    hook = comfy.hooks.TransformerOptionsHook(
        transformers_dict={"patches": {"attn2_patch": [patch]}}, hook_scope=comfy.hooks.EnumHookScope.HookedOnly
    )
    group = comfy.hooks.HookGroup()
    group.add(hook)
    return group


def curve(waveform: Tensor, sample_rate: int, fps: float, frames: int, mapping: str, reference: float) -> list[float]:
    """Momentary loudness (400 ms) of the first sound at each frame -> scales in [0, 2]; `frames` 0: the sound's length."""
    levels = momentary(waveform[:1], sample_rate)[0]  # one value each 100 ms, of the 400 ms that end 300 ms later
    seconds = waveform.shape[-1] / sample_rate
    count = frames or max(1, math.ceil(seconds * fps - 1e-9))
    places = [min(max(round((frame / fps - 0.2) * 10), 0), len(levels) - 1) for frame in range(count)]
    return to_scale(levels[places], mapping, reference).tolist()


def sweep(first: float, last: float, count: int) -> list[float]:
    """`count` scales in even steps, both ends included; one is `first` alone."""
    return torch.linspace(first, last, count, dtype=torch.float64).tolist()


def scales_of_numbers(values, low: float, high: float, stretch: bool) -> list[float]:
    """Numbers in lists, tensors or arrays of any depth -> scales in [low, high]; equal ones stretch to the middle.

    Raises `EditError` for what are no numbers, and for `low` above `high`.
    """
    if low > high:
        raise EditError(f"low is {low:g} and high {high:g}", "low is the smaller one", "Exchange them")
    numbers = torch.tensor(list(_flat(values)), dtype=torch.float64)
    if not numbers.numel() or not bool(numbers.isfinite().all()):
        raise EditError(
            "The values hold no numbers" if not numbers.numel() else "Some of the values are not numbers",
            "A list of finite numbers",
            "Look at what is connected to `values`",
        )
    if stretch:
        span = numbers.max() - numbers.min()
        share = (numbers - numbers.min()) / span if span > 0 else torch.full_like(numbers, 0.5)
        numbers = low + share * (high - low)
    return numbers.clamp(low, high).tolist()


def _flat(values):
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (list, tuple)):
        for value in values:
            yield from _flat(value)
    elif isinstance(values, (int, float)):
        yield float(values)
    else:
        raise EditError(f"The values hold a {type(values).__name__}", "A list of numbers", "Reconnect `values`")
