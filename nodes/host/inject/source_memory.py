"""What the source's attention saw, call by call: on the device, in RAM, or to be computed again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import comfy.model_management as mm
import torch
from torch import Tensor

MEMORY = ("auto", "device", "ram", "recompute")
SHARE = 0.5  # of the free memory that the bank may take


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
        """Keep q and k of a layer; returns their bytes."""
        pair = tuple(x.to("cpu") if self.place == "ram" else x.clone() for x in (q, k))
        self.layers.setdefault(layer, []).append(pair)
        return sum(x.numel() * x.element_size() for x in pair)

    def read(self, layer: tuple, occurrence: int, device) -> tuple[Tensor, Tensor] | None:
        """q and k of the n-th evaluation of a layer within this call; later ones fall back to the last."""
        pairs = self.layers.get(layer)
        if not pairs:
            return None
        q, k = pairs[min(occurrence, len(pairs) - 1)]
        return q.to(device), k.to(device)


class AttentionBank:
    """All calls of the source's run."""

    def __init__(self, memory: str, device):
        self._memory, self._device = memory, torch.device(device)
        self._left: dict[str, float] = {}
        self.calls: list[Call] = []
        self.bytes = 0

    def begin(self, sigma: float, expected: int) -> Call:
        """Open the next call, where as many bytes as are expected of it fit."""
        if not self._left:  # only now is the model in its place
            places = {"device": self._device, "ram": torch.device("cpu")}
            self._left = {place: SHARE * mm.get_free_memory(where) for place, where in places.items()}
            if self._device.type == "cpu":
                self._left["device"] = 0.0
        self.calls.append(Call(sigma, self._place(expected)))
        return self.calls[-1]

    def _place(self, expected: int) -> str:
        if self._memory != "auto":
            return self._memory
        return next((place for place in ("device", "ram") if self._left[place] > expected), "recompute")

    def store(self, call: Call, layer: tuple, q: Tensor, k: Tensor) -> None:
        size = call.store(layer, q, k)
        if call.place in self._left:
            self._left[call.place] -= size
            self.bytes += size

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
            return "computes the source's attention again for each edit"
        each = self.bytes / len(kept) / 1e6
        places = " and in ".join(sorted({"RAM" if call.place == "ram" else "device memory" for call in kept}))
        return f"keeps {each:.1f} MB of the source's attention a step, {each * len(kept):.0f} MB in all, in {places}"

    def clear(self) -> None:
        self.calls.clear()
