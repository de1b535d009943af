"""The edit's side: its attention takes the source's maps where the plan says so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ....aai_models.inject.attention import ColumnMix, RowEdit, inject_cross, own_factors, put_rows
from ..base.patches import plain_attention
from ..base.rows import CallMemo, RowFinder, is_rearranged, prompt_length
from .edits import TAG, Branch, EditSettings
from .notices import Notices, where
from .opened import Opened, is_small
from .recorder import layer_of
from .source_memory import Call


@dataclass(frozen=True)
class CrossPlan:
    """What all layers of one call of the model do with their cross-attention."""

    edits: tuple[tuple[RowEdit, Branch], ...]  # rows that are not left as they are; their source is read layer by layer
    factors: Tensor | None  # see `own_factors`


class Injector:
    """Eq. 7 for the rows of edits; all other rows keep their bits."""

    def __init__(self, finder: RowFinder, settings: EditSettings, notices: Notices):
        self._finder, self._settings, self._notices = finder, settings, notices
        self._call: Call | None = None
        self._opened = Opened()
        self._source_lengths: dict[int, int] = {}
        self._memo = CallMemo()
        self._mixes: dict[tuple, ColumnMix] = {}  # for a whole run: windows open and close a few times only
        self._plans: dict[tuple, CrossPlan] = {}
        self._seen: dict[tuple, int] = {}

    def learn_source(self, entries: dict[int, dict]) -> None:
        """The source's conditionings by number, as they are sampled."""
        self._source_lengths = {index: prompt_length(entry) for index, entry in entries.items()}

    def begin(self, call: Call, opened: Opened) -> None:
        """What follows is the edit's answer to this call of the source."""
        self._call, self._opened = call, opened
        self._seen.clear()

    def forget(self) -> None:
        """Free what a run of the sampler needed."""
        self._call = None
        self._memo = CallMemo()
        self._mixes.clear()
        self._plans.clear()

    def cross(self, inner, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        plan = self._memo.get(extra, (q.shape[0], k.shape[1], v.dtype, v.device), lambda: self._plan(q, k, v, extra))
        if not plan.edits:
            return inner(q, k, v, extra)
        edits, complete = [], True
        for edit, tag in plan.edits:
            if not edit.mix.takes:
                edits.append(edit)
            elif source := self._read("cross", edit.rows, q, tag, extra):
                edits.append(replace(edit, source=source))
            else:
                complete = False
        if not edits:
            return inner(q, k, v, extra)
        factors = plan.factors if complete else own_factors(q.shape[0], k.shape[1], edits)
        return inject_cross(
            lambda *qkv: inner(*qkv, extra),
            lambda *qkv: plain_attention(*qkv, extra),
            *(q, k, v, edits, factors),
            whole=inner is plain_attention,
        )

    def self_attention(self, inner, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        if not self._opened.self_attention or not is_small(q, extra, self._settings):
            return inner(q, k, v, extra)
        pieces = []
        if is_rearranged(extra, q.shape[0], tiles=True):
            self._tell_rearranged("self", extra)
        else:
            for rows, entry in self._finder.rows(extra, q.shape[0]):
                tag = entry.get(TAG)
                source = self._read("self", rows, q, tag, extra) if tag is not None and tag.edit is not None else None
                if source is not None and source[1].shape[1] == k.shape[1]:
                    pieces.append((rows, source))
        if pieces:
            q, k = (put_rows(x, [(rows, source[n]) for rows, source in pieces]) for n, x in enumerate((q, k)))
        return inner(q, k, v, extra)

    def _plan(self, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> CrossPlan:
        if is_rearranged(extra, q.shape[0]):
            self._tell_rearranged("cross", extra)
            return CrossPlan((), None)
        # The same batch comes again at each step: what is on the device then serves as long as no window opens or closes.
        key = (tuple(extra.get("uuids") or ()), self._opened.windows, q.shape[0], k.shape[1], v.dtype, v.device)
        if key not in self._plans:
            edits = []
            for rows, entry in self._finder.rows(extra, q.shape[0]):
                mix = self._mix(entry, v)
                if mix is not None and not mix.neutral:
                    edits.append((RowEdit(rows, mix), entry[TAG]))
            factors = own_factors(q.shape[0], k.shape[1], [edit for edit, _ in edits]) if edits else None
            self._plans[key] = CrossPlan(tuple(edits), factors)
        return self._plans[key]

    def _mix(self, entry: dict, values: Tensor) -> ColumnMix | None:
        """The mix of one conditioning while these windows are open, where its values are."""
        tag = entry.get(TAG)
        if tag is None or tag.edit is None or tag.edit.source not in self._source_lengths:
            return None
        lengths = self._source_lengths[tag.edit.source], prompt_length(entry)
        key = (tag.edit, self._opened.windows, lengths, values.dtype, values.device)
        if key not in self._mixes:
            self._mixes[key] = tag.edit.mix(self._opened.windows, *lengths).to(values.device, values.dtype)
        return self._mixes[key]

    def _read(self, kind: str, rows: slice, q: Tensor, tag: Branch, extra: dict) -> tuple[Tensor, Tensor] | None:
        """The source's q and k for a layer of an edit, or None where they do not fit what another pack made of it."""
        layer = layer_of(kind, extra, tag.edit.source)
        occurrence = self._seen.get((tag.index, *layer), 0)
        self._seen[(tag.index, *layer)] = occurrence + 1
        found, count = self._call.read(layer, occurrence, q.device), rows.stop - rows.start
        if found is None or found[0].shape[1:] != q.shape[1:] or count % found[0].shape[0]:
            reason = "was not computed for the source" if found is None else "has another size than the source's"
            self._notices.warn(
                f"{where(kind, extra)} {reason}, so the edit skips it; another node changes it between runs",
                reason,
            )
            return None
        repeats = count // found[0].shape[0]
        return tuple(x.repeat(repeats, 1, 1) for x in found) if repeats > 1 else found

    def _tell_rearranged(self, kind: str, extra: dict) -> None:
        self._notices.warn(f"another node changed the batch rows of {where(kind, extra)}, so the edit skips it", "rows")
