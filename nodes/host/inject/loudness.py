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
from ....aai_models.inject.attention import column_factors, copies
from ..base.patches import add_patch, require_unet, with_wrapper
from ..base.prompt_words import COND_KEY, PromptWords, missing_words, unknown_words
from ..base.rows import CallMemo, RowFinder, Windows, fill_up, identify_rows, is_rearranged, prompt_length
from .edits import check_window, words_of

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
            "This mapping needs a loudness",
            "Connect audio or lufs, or choose manual",
        )
    return checked_scale(to_scale(float(lufs), mapping, reference))


def checked_scale(scale: float) -> float:
    """A finite scale, clamped to [0, 2] with a warning in the log."""
    if not math.isfinite(scale):
        raise EditError(f"The scale is {scale}", "It must be a number from 0 to 2", "Check what is connected to it")
    clamped = min(max(float(scale), 0.0), LARGEST_SCALE)
    if clamped != scale:
        log.warning("Loudness Scale: the scale %g lies outside 0 to 2 and was set to %g.", scale, clamped)
    return clamped


def scaled(conditioning: list, words: str, factor: float, start: float, end: float, base: str) -> list:
    """The conditioning with its words marked for scaling; the same one for a factor of 1."""
    check_window(start, end, "scale")
    if factor == 1.0 or start == end:
        return conditioning
    phrases, marked = words_of(words), []
    knowns = [PromptWords.require(cond, extra, "connected") for cond, extra in conditioning]
    if missing := missing_words(phrases, knowns):
        raise unknown_words(missing, knowns, "words")
    for (cond, extra), known in zip(conditioning, knowns, strict=True):
        columns = sorted({column for phrase in phrases for column in known.columns_of(phrase)})
        if not columns:  # a part of a regional prompt that holds none of them
            marked.append([cond, extra])
            continue
        scales = (*extra.get(SCALES, ()), WordScale(tuple(columns), factor, start, end))
        if base == "own":  # prompt-to-prompt then leaves these words their own maps
            known = known.keep(columns)
        marked.append([cond, {**extra, SCALES: scales, COND_KEY: known}])
    return marked


def patched(model):
    """A clone of a ModelPatcher whose samplers apply the marks of `scaled`."""
    require_unet(model)
    return with_wrapper(model, WRAPPERS.SAMPLER_SAMPLE, KEY, _sample)


def _sample(executor, guider, sigmas, extra_args, *args, **kwargs):
    options = extra_args["model_options"].setdefault("transformer_options", {})
    finder = RowFinder()
    finder.entries = {i: entry for i, entry in identify_rows(guider, options).items() if SCALES in entry}
    if finder.entries:
        add_patch(options, "attn2_patch", _row_patch(finder, Windows(guider.inner_model.model_sampling)))
    return executor(guider, sigmas, extra_args, *args, **kwargs)


def _row_patch(finder: RowFinder, windows: Windows):
    """Scales the value rows of those rows of the batch that are marked."""
    memo, warned = CallMemo(), []

    def factors(value: Tensor, extra: dict) -> Tensor | None:
        """(B, L, 1) for a whole call of the model; None where nothing is scaled."""
        sigma, total = float(extra["sigmas"].flatten()[0]), None
        for rows, entry in finder.rows(extra, value.shape[0]):
            open_now = [(s.columns, s.factor) for s in entry[SCALES] if windows.is_open(s.start, s.end, sigma)]
            scale = column_factors(prompt_length(entry), open_now)
            if bool((scale != 1).any()):
                total = torch.ones(*value.shape[:2], 1) if total is None else total
                total[rows] = copies(scale, value.shape[1])[:, None]
        return None if total is None else total.to(value)

    def patch(n, context, value, extra):
        if is_rearranged(extra, n.shape[0]) or n.shape[0] != value.shape[0]:
            if not warned:
                warned.append(True)
                log.warning(
                    "Loudness Scale: another node changed the batch rows of an attention layer; words are not scaled there."
                )
            return n, context, value
        key = (value.shape, value.dtype, value.device)
        scale = memo.get(extra, key, lambda: factors(value, extra))
        return n, context, value if scale is None else value * scale

    return patch


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
                factors = column_factors(cond.shape[1], [(scale.columns, scale.factor) for scale in active])
                piece = comfy.hooks.set_hooks_for_conditioning(piece, _hook(factors))
            result += piece
    return result


def _pieces(scales: tuple[WordScale, ...], first: float, last: float) -> list[tuple[float, float]]:
    """The run from `first` to `last`, cut where a scale opens or closes."""
    edges = sorted({first, last, *(e for s in scales for e in (s.start, s.end) if first < e < last)})
    # The host includes both ends of a range; a step that falls on a cut belongs to the later piece, as in `is_open`.
    pieces = [(start, end if end == last else end - 1e-5) for start, end in itertools.pairwise(edges)]
    return pieces or [(first, last)]


def _hook(factors: Tensor) -> comfy.hooks.HookGroup:
    memo = CallMemo()

    def patch(n, context, value, extra):
        key = (value.shape, value.dtype, value.device)
        return n, context, value * memo.get(extra, key, lambda: fitted(factors, context))

    hook = comfy.hooks.TransformerOptionsHook(
        transformers_dict={"patches": {"attn2_patch": [patch]}}, hook_scope=comfy.hooks.EnumHookScope.HookedOnly
    )
    group = comfy.hooks.HookGroup()
    group.add(hook)
    return group


def fitted(factors: Tensor, context: Tensor) -> Tensor:
    """The factors (L,) of a prompt for a context (B, K, C) that may be longer -> (B or 1, K, 1).

    The host repeats a prompt to batch it with a longer one; other nodes put more behind it (Conditioning Concat, Apply Style
    Model), which is not scaled. The first is told from the second by what the context holds.
    """
    length, total = factors.shape[0], context.shape[1]
    factors = factors.to(context)
    once = fill_up(factors, total, 1.0).view(1, total, 1)
    if total <= length or total % length:
        return once
    repeated = (context.unflatten(1, (-1, length)) == context[:, None, :length]).flatten(1).all(dim=1)
    return torch.where(repeated[:, None, None], copies(factors, total).view(1, total, 1), once)


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

    Raises `EditError` for anything but finite numbers, and for `low` above `high`.
    """
    if low > high:
        raise EditError(f"low is {low:g} and high is {high:g}", "low must not be larger than high", "Swap them")
    numbers = torch.tensor(list(_flat(values)), dtype=torch.float64)
    if not numbers.numel() or not bool(numbers.isfinite().all()):
        raise EditError(
            "`values` holds no numbers" if not numbers.numel() else "`values` contains NaN or infinity",
            "It must be a list of finite numbers",
            "Check what is connected to `values`",
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
        raise EditError(
            f"`values` holds a {type(values).__name__}", "It must be a list of numbers", "Reconnect `values`"
        )
