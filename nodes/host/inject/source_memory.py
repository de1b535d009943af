"""The source's recorded q and k, call by call: on the device, in RAM, or recomputed."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

import comfy.model_management as mm
import torch
from torch import Tensor

MEMORY = ("auto", "device", "ram", "recompute")
SHARE = 0.5  # share of the free memory for recorded attention
HOST_MARGIN = 1.5  # the host batches what takes so many times less than what is free


def attention_bytes(
    layers: list[tuple[int, int, int]],
    size: tuple[int, int],
    words: int,
    element: int,
    cross: bool,
    self_downsample: int | None,
) -> int:
    """Bytes of q and k that a call keeps of one picture.

    layers: see `attention_layers`; size: sides of the latent; words: tokens of the prompt; element: bytes of a value;
    cross: whether cross-attention is kept; self_downsample: from which factor on self-attention is, None for not at all.
    """

    def tokens(factor: int) -> int:
        return math.prod(-(-side // factor) for side in size)

    values = 0
    for factor, channels, count in layers:
        pictures = tokens(factor)
        kept = pictures + words if cross else 0
        if self_downsample and pictures <= tokens(self_downsample):
            kept += 2 * pictures
        values += kept * channels * count
    return values * element


@dataclass
class Call:
    """One evaluation of the model by the sampler."""

    sigma: float
    place: str  # device, ram or recompute
    x: Tensor | None = None  # what the model was given, where the rest is computed again
    denoised: Tensor | None = None
    maps: Tensor | None = None  # word maps up to this call, for local blend
    layers: dict[tuple, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def store(self, layer: tuple, q: Tensor, k: Tensor) -> int:
        """Keep q (b, P, C) and k (b, L, C) of a layer; returns their bytes.

        Both go into one new tensor: it holds nothing else of the batch that they are rows of, and moves at once.
        """
        both = torch.cat([q, k], dim=1)
        both = both.to("cpu") if self.place == "ram" else both
        self.layers.setdefault(layer, []).append((both[:, : q.shape[1]], both[:, q.shape[1] :]))
        return both.numel() * both.element_size()

    def read(self, layer: tuple, occurrence: int, device) -> tuple[Tensor, Tensor] | None:
        """q and k of the n-th evaluation of a layer within this call; later ones fall back to the last."""
        pairs = self.layers.get(layer)
        if not pairs:
            return None
        q, k = pairs[min(occurrence, len(pairs) - 1)]
        return q.to(device), k.to(device)


def next_step_bytes(guider, shape: torch.Size) -> float:
    """What the host takes for a step with latents of a shape, all conditionings in one batch."""
    count = sum(len(entries) for entries in guider.conds.values())
    return HOST_MARGIN * guider.inner_model.memory_required([count * shape[0], *shape[1:]])


class AttentionBank:
    """All calls of the source's run."""

    def __init__(self, memory: str, device):
        self._memory, self._device = memory, torch.device(device)
        self._left: dict[str, float] = {}
        self._lock = threading.Lock()  # the host may evaluate parts of a batch at the same time
        self.calls: list[Call] = []
        self.bytes = 0

    def begin(self, sigma: float, expected: int, step: float = 0.0) -> Call:
        """Open the next call, where as many bytes as are expected of it fit and a step of the model still has its own."""
        if not self._left and self._memory == "auto":  # only now is the model loaded
            self._left = {"device": self._room(self._device, step), "ram": self._room(torch.device("cpu"), 0.0)}
            if self._device.type == "cpu":
                self._left = {"device": 0.0, "ram": self._room(self._device, step)}
        self.calls.append(Call(sigma, self._place(expected)))
        return self.calls[-1]

    @staticmethod
    def _room(device: torch.device, step: float) -> float:
        free = mm.get_free_memory(device)
        return max(0.0, min(SHARE * free, free - step))

    @property
    def recomputes(self) -> bool:
        """Whether any call is to be computed again."""
        return any(call.place == "recompute" for call in self.calls)

    def _place(self, expected: int) -> str:
        if self._memory != "auto":
            return self._memory
        return next((place for place in ("device", "ram") if self._left[place] > expected), "recompute")

    def store(self, call: Call, layer: tuple, q: Tensor, k: Tensor) -> None:
        size = call.store(layer, q, k)
        with self._lock:
            self.bytes += size
            if call.place in self._left:
                self._left[call.place] -= size

    def at(self, index: int, sigma: float) -> Call | None:
        """The source's call of the same number if its sigma agrees, else that of the nearest sigma."""
        if not self.calls:
            return None
        if index < len(self.calls) and abs(self.calls[index].sigma - sigma) <= 1e-4 * max(sigma, 1e-4):
            return self.calls[index]
        return min(self.calls, key=lambda call: abs(call.sigma - sigma))

    def report(self) -> str:
        """How much of the source's attention is kept, and where."""
        kept = [call for call in self.calls if call.layers]
        if not kept:
            return "recomputes the source's attention for each edit"
        each = self.bytes / len(kept) / 1e6
        places = " and in ".join(sorted({"RAM" if call.place == "ram" else "device memory" for call in kept}))
        return f"keeps {each:.1f} MB of the source's attention a step, {each * len(kept):.0f} MB in all, in {places}"

    def clear(self) -> None:
        self.calls.clear()
