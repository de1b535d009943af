"""Word maps of a run of the sampler: where in the picture each word of the prompt acted."""

from __future__ import annotations

from dataclasses import dataclass, field

import comfy.patcher_extension
import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.errors import EditError
from ....aai_models.inject.attention import column_maps
from ....aai_models.inject.words import phrase_columns
from ..base.patches import nearest_factor, require_unet, wrap_attention
from ..base.prompt_words import COND_KEY
from ..base.rows import identify_rows, is_open, prompt_length, rows_in_call
from .branch_run import tokens_at
from .edits import TAG, words_of

KEY = "aai_watch"
WRAPPERS = comfy.patcher_extension.WrappersMP


@dataclass
class WordMaps:
    """What a watched model saw in its last run; filled while it samples."""

    words: tuple[str, ...]
    windows: int  # the run is divided into so many parts of equal percent
    downsample: int  # maps are read where the picture is so many times smaller than the latent
    # (branch, window) -> (B, words, h, w) sums, and how many were added up
    sums: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)

    def clear(self) -> None:
        self.sums.clear()
        self.counts.clear()

    def add(self, branch: int, window: int, maps: Tensor) -> None:
        key = (branch, window)
        before = self.sums.get(key)
        self.sums[key] = maps if before is None or before.shape != maps.shape else before + maps
        self.counts[key] = 1 if before is None or before.shape != maps.shape else self.counts[key] + 1

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
            raise EditError(f"Nothing was sampled in window {window}", "Fewer windows than steps", "Use fewer windows")
        return torch.cat(shown)


def watched(model, words: str, windows: int, downsample: int):
    """A clone of a ModelPatcher that fills the returned `WordMaps` while it samples."""
    phrases = tuple(words_of(words))
    if not phrases:
        raise EditError(
            "No words to watch", "Words of the prompt, separated by commas", "Write some, as in `<A*>, sea`"
        )
    maps = WordMaps(phrases, windows, nearest_factor(require_unet(model), downsample))
    clone = model.clone()
    clone.add_wrapper_with_key(WRAPPERS.OUTER_SAMPLE, KEY, _forget(maps))
    clone.add_wrapper_with_key(WRAPPERS.SAMPLER_SAMPLE, KEY, _sampler(maps))
    return clone, maps


def _forget(maps: WordMaps):
    def outer(executor, *args, **kwargs):
        # Prompt-to-prompt starts a run for each branch: those after the source add their maps to its.
        entries = (entry for entries in executor.class_obj.conds.values() for entry in entries)
        if not any(TAG in entry and entry[TAG].number for entry in entries):
            maps.clear()
        return executor(*args, **kwargs)

    return outer


def _sampler(maps: WordMaps):
    def sample(executor, guider, sigmas, extra_args, *args, **kwargs):
        options = extra_args["model_options"].setdefault("transformer_options", {})
        rows = identify_rows(guider, options)
        watch = _attention(maps, rows, guider.inner_model.model_sampling)
        wrap_attention(options, guider.inner_model.diffusion_model, "attn2", watch)
        return executor(guider, sigmas, extra_args, *args, **kwargs)

    return sample


def _attention(maps: WordMaps, rows: dict, sampling):
    columns = {identity: _columns(entry, maps.words) for identity, entry in rows.items()}

    def wrap(inner):
        def attend(q, k, v, extra):
            if q.shape[1] == tokens_at(extra, maps.downsample):
                for where, identity in rows_in_call(extra, q.shape[0]):
                    if columns.get(identity) is not None:
                        _add(maps, q[where], k[where], extra, rows[identity], columns[identity], sampling)
            return inner(q, k, v, extra)

        return attend

    return wrap


def _columns(entry: dict, words: tuple[str, ...]) -> list[list[int]] | None:
    """Columns of each word in a prompt; None for prompts that hold none of them."""
    known = entry.get(COND_KEY)
    if known is None or "texts" not in known:
        return None
    found = [phrase_columns(known["texts"], known["columns"], word) for word in words]
    return found if any(found) else None


def _add(maps: WordMaps, q, k, extra, entry: dict, columns: list[list[int]], sampling) -> None:
    sigma = float(extra["sigmas"].flatten()[0])
    window = next(
        (n for n in range(maps.windows) if is_open(sampling, n / maps.windows, (n + 1) / maps.windows, sigma)), 0
    )
    wanted = sorted({c for word in columns for c in word})
    all_maps = column_maps(q, k, extra["n_heads"], wanted, prompt_length(entry))
    place = {column: index for index, column in enumerate(wanted)}
    each = [all_maps[..., [place[c] for c in word]].sum(-1) for word in columns]
    height, width = (-(-side // maps.downsample) for side in extra["original_shape"][-2:])
    branch = entry[TAG].number if TAG in entry else 0
    maps.add(branch, window, torch.stack(each, dim=1).unflatten(-1, (height, width)).cpu())


def to_size(maps: Tensor, height: int, width: int) -> Tensor:
    """(B, words, h, w) -> (B, words, height, width), each map relative to its largest value, in 0..1."""
    large = F.interpolate(maps.float(), size=(height, width), mode="bicubic", align_corners=False).clamp_min(0.0)
    return large / large.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
