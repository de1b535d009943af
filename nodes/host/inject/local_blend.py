"""Local blend: only where some words act, or inside the artist's own mask, does an edit differ from its source."""

from __future__ import annotations

import threading

import torch
import torch.nn.functional as F
from torch import Tensor

from ....aai_models.inject.attention import word_columns, word_maps
from ....aai_models.inject.blend import local_blend, word_mask
from ..base.patches import nearest_factor
from ..base.rows import RowFinder, Windows, is_rearranged, prompt_length
from .edits import TAG, Branch
from .notices import Notices
from .opened import tokens_at, whole_picture

FACTOR = 4  # looked at are the layers that are about so much smaller than the latent


class LocalBlend:
    """Adds up the maps of the chosen words while a branch is sampled, and puts the source where they do not act."""

    def __init__(self, tag: Branch, finder: RowFinder, notices: Notices):
        self._settings, self._own_mask = tag.settings, tag.blend_mask
        self._finder, self._notices = finder, notices
        self._factor, self._size = FACTOR, (0, 0)
        self._looks = bool(tag.settings.blend_words.strip())
        self.acts = self._looks or tag.blend_mask is not None
        # (B, h, w) sums: the host may run parts of a batch on several devices, each in a thread of its own.
        self._maps: dict[torch.device, Tensor] = {}
        self._lock = threading.Lock()
        self._words: dict[tuple, Tensor] = {}  # columns of the words, where they are used
        self._fitted: dict[tuple, Tensor] = {}  # the artist's mask at the size of a latent
        self._mask: Tensor | None = None

    def begin_branch(self, unet, size: tuple[int, int]) -> None:
        """size: sides of the latent."""
        self._factor, self._size = nearest_factor(unet, FACTOR), size
        self.forget()

    def forget(self) -> None:
        self._maps, self._mask = {}, None
        self._words.clear()
        self._fitted.clear()

    def look(self, q: Tensor, k: Tensor, extra: dict) -> None:
        """Add up the maps of this layer, if it is one of those that are looked at."""
        if not self._looks or q.shape[1] != tokens_at(extra, self._factor) or is_rearranged(extra, q.shape[0]):
            return
        sides = tuple(-(-side // self._factor) for side in extra["original_shape"][-2:])
        for rows, entry in self._finder.rows(extra, q.shape[0]):
            if TAG in entry and entry[TAG].blend_columns:
                words = self._columns(entry, q.device)
                maps = word_maps(q[rows], k[rows], extra["n_heads"], words).squeeze(-1).unflatten(1, sides)
                if (maps := whole_picture(maps, entry, self._factor, self._size)) is not None:
                    with self._lock:
                        before = self._maps.get(q.device)
                        self._maps[q.device] = maps if before is None else before + maps

    def _columns(self, entry: dict, device: torch.device) -> Tensor:
        """(L, 1): all columns of the chosen words."""
        key = (entry[TAG], prompt_length(entry), device)
        if key not in self._words:
            self._words[key] = word_columns([entry[TAG].blend_columns], prompt_length(entry)).to(device)
        return self._words[key]

    def maps(self) -> Tensor | None:
        """The sums up to now, of all devices."""
        parts = list(self._maps.values())
        return sum((part.to(parts[0].device) for part in parts[1:]), start=parts[0]) if parts else None

    def blend(self, denoised: Tensor, source: Tensor, source_maps: Tensor | None, windows: Windows, sigma: float):
        """The edit's answer of one call with the source's outside the mask; (B, C, H, W) both."""
        if not windows.is_open(self._settings.blend_start, 1.0, sigma):
            return denoised
        size = tuple(denoised.shape[-2:])
        if self._own_mask is not None:
            self._mask = self._fit(size, denoised.device)
        else:
            seen = [m.to(denoised.device) for m in (source_maps, self.maps()) if m is not None]
            if not seen:
                self._notices.warn("local blend found no layer with word maps; the whole picture may change")
                return denoised
            first, *more = (word_mask(m, size, self._settings.blend_threshold) for m in seen)
            self._mask = first | more[0] if more else first
        return local_blend(denoised, source, self._mask)

    def _fit(self, size: tuple[int, int], device: torch.device) -> Tensor:
        if (size, device) not in self._fitted:
            mask = F.interpolate(self._own_mask.unsqueeze(1).float(), size=size, mode="bilinear") > 0.5
            self._fitted[size, device] = mask.to(device)
        return self._fitted[size, device]

    def finish(self, output: Tensor, source: Tensor) -> Tensor:
        """A branch's result with exactly the source's outside the last mask."""
        return output if self._mask is None else local_blend(output, source, self._mask.to(output.device))
