"""What the source's attention saw, call by call: on the device, in RAM, or to be computed again."""

from __future__ import annotations

from dataclasses import dataclass, field

import comfy.model_management as mm
import torch
from torch import Tensor

MEMORY = ("auto", "device", "ram", "recompute")
SHARE = 0.5  # of the free memory that the bank may take


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
        self._left = {"device": 0.0, "ram": 0.0}
        self.calls: list[Call] = []
        self.bytes = 0
        for place, where in (("device", self._device), ("ram", torch.device("cpu"))):
            self._left[place] = SHARE * mm.get_free_memory(where)
        if self._device.type == "cpu":
            self._left["device"] = 0.0

    def begin(self, sigma: float) -> Call:
        """Open the next call; what the last one took says where this one fits."""
        self.calls.append(Call(sigma, self._place()))
        return self.calls[-1]

    def _place(self) -> str:
        if self._memory != "auto":
            return self._memory
        expected = self._bytes_of_last()
        for place in ("device", "ram"):
            if self._left[place] > expected:
                return place
        return "recompute"

    def _bytes_of_last(self) -> int:
        if not self.calls:
            return 0
        pairs = (pair for pairs in self.calls[-1].layers.values() for pair in pairs)
        return sum(x.numel() * x.element_size() for pair in pairs for x in pair)

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
