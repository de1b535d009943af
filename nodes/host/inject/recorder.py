"""The source's side of an edit: records q and k of its attention, call by call."""

from __future__ import annotations

from torch import Tensor

from ..base.rows import RowFinder, is_rearranged, prompt_length
from .edits import TAG, EditSettings
from .notices import Notices, where
from .opened import Opened, is_small
from .source_memory import AttentionBank, Call, attention_bytes


def layer_of(kind: str, extra: dict, index: int) -> tuple:
    """The name of a layer's attention ("cross", "self") for one conditioning of the source."""
    return kind, extra.get("block"), extra.get("block_index"), index


class Recorder:
    """Keeps q and k of the source's rows, of the layers that an edit is going to ask for."""

    def __init__(self, bank: AttentionBank, finder: RowFinder, settings: EditSettings, notices: Notices):
        self._bank, self._finder, self._settings, self._notices = bank, finder, settings, notices
        self._call: Call | None = None
        self._opened = Opened()

    def begin(self, call: Call | None, opened: Opened) -> None:
        """What follows belongs to this call of the model."""
        self._call, self._opened = call, opened

    def cross(self, inner, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        if self._opened.cross:
            self._keep("cross", q, k, extra)
        return inner(q, k, v, extra)

    def self_attention(self, inner, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        if self._opened.self_attention and is_small(q, extra, self._settings):
            self._keep("self", q, k, extra)
        return inner(q, k, v, extra)

    def _keep(self, kind: str, q: Tensor, k: Tensor, extra: dict) -> None:
        if self._call is None or self._call.place == "recompute":
            return
        if is_rearranged(extra, q.shape[0], tiles=kind == "self"):
            self._notices.warn(
                f"another node changed the batch rows of {where(kind, extra)}, so it is not recorded", "rows"
            )
            return
        for rows, entry in self._finder.rows(extra, q.shape[0]):
            if TAG in entry:
                self._bank.store(self._call, layer_of(kind, extra, entry[TAG].index), q[rows], k[rows])


def expected_bytes(model, layers: list, x: Tensor, entries: list[dict], opened: Opened, settings: EditSettings) -> int:
    """What a call of the source with the latents `x` is going to keep.

    model: the host's BaseModel; layers: its `attention_layers`.
    """
    element = (model.manual_cast_dtype or model.get_dtype()).itemsize
    downsample = settings.self_downsample if opened.self_attention else None
    size = tuple(x.shape[-2:])
    return x.shape[0] * sum(
        attention_bytes(layers, size, prompt_length(entry), element, opened.cross, downsample) for entry in entries
    )
