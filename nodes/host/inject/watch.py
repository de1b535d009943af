"""Word maps of a run of the sampler: where in the picture each word of the prompt acted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import comfy.patcher_extension
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.errors import EditError
from ....aai_models.inject.attention import word_columns, word_maps
from ..base.patches import nearest_factor, require_unet, wrap_attention
from ..base.prompt_words import PromptWords, missing_words, unknown_words
from ..base.rows import CallMemo, RowFinder, Windows, identify_rows, is_rearranged, prompt_length
from .edits import TAG, words_of
from .opened import tokens_at, whole_picture

log = logging.getLogger(__name__)
KEY = "aai_watch"
WRAPPERS = comfy.patcher_extension.WrappersMP


@dataclass
class WordMaps:
    """Word maps of a watched model's last run; filled while it samples."""

    words: tuple[str, ...]
    windows: int  # the run is divided into so many parts of equal percent
    downsample: int  # maps are read where the picture is so many times smaller than the latent
    # (branch, window) -> (B, words, h, w) sums, and how many were added up
    sums: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)
    # The same of a run that goes on, on each device that computes parts of it: (device, branch, window) -> sum, count.
    running: dict[tuple, tuple[Tensor, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)  # the host runs each device in a thread of its own

    def clear(self) -> None:
        self.sums.clear()
        self.counts.clear()
        self.running.clear()

    def note(self, branch: int, window: int, maps: Tensor) -> None:
        """`add` without waiting for the device; `gather` completes it."""
        key = (maps.device, branch, window)
        with self.lock:
            before, count = self.running.get(key, (None, 0))
            fits = before is not None and before.shape == maps.shape
            self.running[key] = (before + maps, count + 1) if fits else (maps, 1)

    def gather(self) -> None:
        """Fetch what was noted on the devices."""
        for (_, branch, window), (maps, count) in self.running.items():
            self.add(branch, window, maps.to("cpu"), count)
        self.running.clear()

    def add(self, branch: int, window: int, maps: Tensor, count: int = 1) -> None:
        key = (branch, window)
        before = self.sums.get(key)
        fits = before is not None and before.shape == maps.shape
        self.sums[key] = before + maps if fits else maps
        self.counts[key] = self.counts[key] + count if fits else count

    def average(self, window: int | None = None) -> Tensor:
        """(pictures, words, h, w): branches one after the other; over the whole run, or of one window."""
        branches = sorted({branch for branch, _ in self.sums})
        if not branches:
            raise EditError(
                "There are no maps yet",
                "They are made while the watched model samples a prompt that holds the words",
                "Connect MODEL of Watch Words to the sampler, and the sampled picture here",
            )
        parts = range(self.windows) if window is None else [window]
        shown = []
        for branch in branches:
            keys = [(branch, part) for part in parts if (branch, part) in self.sums]
            if keys:
                shown.append(sum(self.sums[k] for k in keys) / sum(self.counts[k] for k in keys))
        if not shown:
            raise EditError(
                f"Nothing was sampled in window {window}", "There must be fewer windows than steps", "Use fewer windows"
            )
        return torch.cat(shown)


def watched(model, words: str, windows: int, downsample: int):
    """A clone of a ModelPatcher that fills the returned `WordMaps` while it samples."""
    phrases = tuple(words_of(words))
    if not phrases:
        raise EditError(
            "No words to watch", "It needs words of the prompt, separated by commas", "Write some, as in `<A*>, sea`"
        )
    maps = WordMaps(phrases, windows, nearest_factor(require_unet(model), downsample))
    clone = model.clone()
    clone.add_wrapper_with_key(WRAPPERS.OUTER_SAMPLE, KEY, _forget(maps))
    clone.add_wrapper_with_key(WRAPPERS.SAMPLER_SAMPLE, KEY, _sampler(maps))
    return clone, maps


def _forget(maps: WordMaps):
    def outer(executor, *args, **kwargs):
        # Prompt-to-prompt starts a run for each branch: those after the source add their maps to its.
        shown = list(_shown(executor.class_obj.conds))
        tags = [entry[TAG] for entry in shown if TAG in entry]
        if not any(tag.number for tag in tags):
            maps.clear()
            _require_words(maps.words, tags[0].prompts if tags else [PromptWords.of(entry) for entry in shown])
        try:
            return executor(*args, **kwargs)
        finally:
            maps.gather()

    return outer


def _shown(conds: dict) -> Iterator[dict]:
    """Positive conditionings, by whatever name a guider calls them; not the negative ones."""
    for name, entries in conds.items():
        if "negative" not in name:
            yield from entries


def _require_words(words: tuple[str, ...], prompts) -> None:
    """Raise `EditError` for words that no prompt holds, before anything is sampled; words of other nodes are unknown."""
    if prompts and all(known is not None for known in prompts) and (missing := missing_words(words, prompts)):
        raise unknown_words(missing, prompts, "Watch Words")


def _sampler(maps: WordMaps):
    def sample(executor, guider, sigmas, extra_args, callback, noise, *args, **kwargs):
        options = extra_args["model_options"].setdefault("transformer_options", {})
        rows = identify_rows(guider, options)
        finder = RowFinder()
        finder.entries = {e["uuid"]: rows[e["uuid"]] for e in _shown(guider.conds) if e["uuid"] in rows}
        look = _Look(maps, finder, Windows(guider.inner_model.model_sampling), tuple(noise.shape[-2:]))
        left = wrap_attention(options, guider.inner_model.diffusion_model, "attn2", look.wrap)
        if left:
            log.warning(
                "Watch Words: another node computes %d attention layers in its own way; they are not seen.", left
            )
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)

    return sample


class _Look:
    """Adds up the maps of one run of the sampler."""

    def __init__(self, maps: WordMaps, finder: RowFinder, windows: Windows, size: tuple[int, int]):
        self._maps, self._finder, self._windows, self._size = maps, finder, windows, size
        known = {identity: PromptWords.of(entry) for identity, entry in finder.entries.items()}
        columns = {i: [words.columns_of(word) for word in maps.words] for i, words in known.items() if words}
        # Where no prompt of a branch holds a word, its maps are empty; else those that hold none are left out.
        held = {i: found for i, found in columns.items() if any(found)}
        chosen = held or dict(list(columns.items())[:1])
        finder.entries = {identity: finder.entries[identity] for identity in chosen}
        self._columns = {id(finder.entries[identity]): found for identity, found in chosen.items()}
        self._selected: dict[tuple, Tensor] = {}
        self._memo = CallMemo()

    def wrap(self, inner):
        def attend(q, k, v, extra):
            if q.shape[1] == tokens_at(extra, self._maps.downsample) and not is_rearranged(extra, q.shape[0]):
                for rows, entry in self._finder.rows(extra, q.shape[0]):
                    self._add(q[rows], k[rows], extra, entry)
            return inner(q, k, v, extra)

        return attend

    def _add(self, q: Tensor, k: Tensor, extra: dict, entry: dict) -> None:
        sides = tuple(-(-side // self._maps.downsample) for side in extra["original_shape"][-2:])
        seen = word_maps(q, k, extra["n_heads"], self._words(entry, q.device))
        branch = entry[TAG].number if TAG in entry else 0
        window = self._memo.get(extra, "window", lambda: self._window(extra))
        seen = whole_picture(seen.transpose(1, 2).unflatten(-1, sides), entry, self._maps.downsample, self._size)
        if seen is not None:
            self._maps.note(branch, window, seen)

    def _words(self, entry: dict, device: torch.device) -> Tensor:
        key = (id(entry), device)
        if key not in self._selected:
            self._selected[key] = word_columns(self._columns[id(entry)], prompt_length(entry)).to(device)
        return self._selected[key]

    def _window(self, extra: dict) -> int:
        sigma, count = float(extra["sigmas"].flatten()[0]), self._maps.windows
        parts = (n for n in range(count) if self._windows.is_open(n / count, (n + 1) / count, sigma))
        return next(parts, 0)


def to_size(maps: Tensor, height: int, width: int) -> Tensor:
    """(B, words, h, w) -> (B, words, height, width), each map relative to its largest value, in 0..1."""
    large = F.interpolate(maps.float(), size=(height, width), mode="bicubic", align_corners=False).clamp_min(0.0)
    return large / large.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
