"""The plan of an edit: source and target conditionings in, one tagged conditioning for the sampler out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ....aai_models.errors import EditError
from ....aai_models.inject.attention import ColumnMix, column_factors, mix_columns
from ....aai_models.inject.projection import project_prompt, refinement_matrix, replacement_matrix, word_places
from ....aai_models.inject.words import END_OF_WORD, parse_word_values
from ..base.prompt_words import PromptWords, missing_words, unknown_words
from ..base.rows import fill_up
from .photo import PHOTO_KEY, Photo
from .source_memory import MEMORY

TAG = "aai_p2p"  # on each conditioning of an edit
CONTROLLERS = ("AttentionRefine", "AttentionReplace")
REWEIGHT_BASES = ("own", "injected")
SCALE_WINDOWS = ("whole_run", "cross_window")


@dataclass(frozen=True)
class EditSettings:
    """What an artist sets; percents are the host's, 0 at the start of sampling and 1 at its end."""

    controller: str = "AttentionRefine"  # one of CONTROLLERS
    cross_start: float = 0.0  # injection of cross-attention: first percent
    cross_end: float = 0.8  # and last
    self_start: float = 0.0  # injection of self-attention
    self_end: float = 0.4
    self_downsample: int = 2  # self-attention is injected where the picture is at least so much smaller than the latent
    reweight: str = ""  # lines `word: factor`
    reweight_base: str = "own"  # Eq. 8 scales a word's own map; "injected" the source's, as prompt-to-prompt
    reweight_window: str = "whole_run"  # one of SCALE_WINDOWS
    word_windows: str = ""  # lines `word: start-end` that replace cross_start and cross_end
    memory: str = "auto"  # where the source's attention is kept
    blend_words: str = ""  # local blend: words, separated by commas, where the picture may change
    blend_threshold: float = 0.3  # of the largest value of their maps
    blend_start: float = 0.2  # percent from which on it acts

    def validate(self) -> None:
        """Raise `EditError` for settings that contradict themselves."""
        for name, allowed in (
            ("controller", CONTROLLERS),
            ("reweight_base", REWEIGHT_BASES),
            ("reweight_window", SCALE_WINDOWS),
            ("memory", MEMORY),
        ):
            if getattr(self, name) not in allowed:
                raise EditError(
                    f"{name} is {getattr(self, name)!r}", f"It must be one of {', '.join(allowed)}", "Choose one"
                )
        for kind in ("cross", "self"):
            check_window(getattr(self, f"{kind}_start"), getattr(self, f"{kind}_end"), kind)
        for name in ("blend_threshold", "blend_start"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise EditError(f"{name} is {getattr(self, name):g}", "It must lie between 0 and 1", "Correct it")


def check_window(start: float, end: float, what: str) -> None:
    """Raise `EditError` unless 0 <= start <= end <= 1."""
    if not 0.0 <= start <= end <= 1.0:
        raise EditError(
            f"The {what} window goes from {start:g} to {end:g}",
            "A window must start before it ends, both between 0 and 1",
            f"Swap {what}_start and {what}_end, or set both to 0 to switch it off",
        )


@dataclass(frozen=True, eq=False)
class Edit:
    """How one target conditioning follows one of the source; S and T are the lengths of their prompts."""

    source: int  # which conditioning of the source
    matrix: Tensor  # (S, T), see mix_columns
    windows: tuple[tuple[float, float], ...]  # of each of the T columns: start and end in percent
    scale: Tensor  # (T,)
    settings: EditSettings

    @cached_property
    def all_windows(self) -> frozenset[tuple[float, float]]:
        """The windows of its columns, each once."""
        return frozenset(self.windows)

    @cached_property
    def taking(self) -> frozenset[tuple[float, float]]:
        """The windows in which a column takes a map of the source."""
        taken = self.matrix.ne(0).any(dim=0).tolist()
        return frozenset(window for window, takes in zip(self.windows, taken, strict=True) if takes)

    def mix(self, opened: Collection[tuple[float, float]], source_length: int, target_length: int) -> ColumnMix:
        """The mix while the windows `opened` are open, for prompts of these lengths."""
        matrix = fill_up(fill_up(self.matrix, source_length, 0.0, dim=0), target_length, 0.0, dim=1)
        active = torch.tensor([float(window in opened) for window in self.windows])
        scale = fill_up(self.scale, target_length, 1.0)
        window = fill_up(active, target_length, 0.0).bool()
        return mix_columns(matrix, window, scale, self.settings.reweight_window == "whole_run")


@dataclass(frozen=True, eq=False)
class Branch:
    """The tag of a conditioning: which picture it belongs to, and how that follows the source."""

    number: int  # 0 is the source
    index: int  # of the conditioning within its branch
    count: int  # branches in all
    pictures: int  # in each branch
    settings: EditSettings
    edit: Edit | None = None
    blend_columns: tuple[int, ...] = ()  # columns whose maps make the mask of local blend
    blend_mask: Tensor | None = None  # (B, H, W) the artist's own mask
    photo: Photo | None = None  # how a photo replaces a generated source
    prompts: tuple[PromptWords, ...] = ()  # of the source and all edits


class NeedsEditModel:
    """Sits on an edit's conditionings where the host collects model inputs: raises in a sampler without our model.

    Source and target in one list would else be mixed into one picture, and nobody would know why.
    """

    KEY = "aai_p2p"  # among the model's conditionings

    def process_cond(self, batch_size, **kwargs):
        raise EditError(
            "The sampler has the prompts of an edit, but not its model",
            "The sampler needs MODEL, positive and LATENT of Edit with Sound together",
            "Connect the MODEL output of Edit with Sound to the sampler",
        )


def sampled(entry: dict) -> dict:
    """A copy of a conditioning without `NeedsEditModel`."""
    asked = {key: value for key, value in entry.get("model_conds", {}).items() if key != NeedsEditModel.KEY}
    return {**entry, "model_conds": asked} if "model_conds" in entry else dict(entry)


def plan(source, targets: list, settings: EditSettings, pictures: int, mask: Tensor | None = None) -> list:
    """Source and targets -> one CONDITIONING whose parts know their branch."""
    settings.validate()
    if not source or not all(targets):
        raise EditError(
            "A conditioning is empty", "Source and target must each hold a prompt", "Connect a prompt to each"
        )
    count = 1 + len(targets)
    known_sources = [PromptWords.require(*part, "source") for part in source]
    known_targets = [
        [PromptWords.require(*part, f"target {number}") for part in target]
        for number, target in enumerate(targets, start=1)
    ]
    prompts = (*known_sources, *(known for target in known_targets for known in target))
    blend_words = words_of(settings.blend_words)
    if missing := missing_words(blend_words, prompts):
        raise unknown_words(missing, prompts, "blend_words")
    shared = {
        **{"count": count, "pictures": pictures, "settings": settings, "photo": source[0][1].get(PHOTO_KEY)},
        **{"prompts": prompts, "blend_mask": as_mask(mask, pictures)},
    }

    def branch(number: int, index: int, known: PromptWords, edit: Edit | None = None) -> Branch:
        return Branch(number, index, edit=edit, blend_columns=_all_columns(known, blend_words), **shared)

    planned = []
    for index, ((cond, extra), known) in enumerate(zip(source, known_sources, strict=True)):
        planned.append(_tagged(cond, extra, branch(0, index, known)))
    for number, (target, knowns) in enumerate(zip(targets, known_targets, strict=True), start=1):
        _check_pair(source, target, number)
        for index, ((cond, extra), known) in enumerate(zip(target, knowns, strict=True)):
            partner = 0 if len(source) == 1 else index
            edit = join_tails(make_edit(known_sources[partner], known, partner, settings), source[partner][0], cond)
            planned.append(_tagged(cond, extra, branch(number, index, known, edit)))
    return planned


def _tagged(cond: Tensor, extra: dict, tag: Branch) -> list:
    refuses = {NeedsEditModel.KEY: NeedsEditModel()}
    return [cond, {**extra, TAG: tag, "model_conds": {**extra.get("model_conds", {}), **refuses}}]


def _check_pair(source: list, target: list, number: int) -> None:
    """Raise `EditError` for conditionings that cannot be source and target of one edit."""
    if len(source) not in (1, len(target)):
        raise EditError(
            f"The source has {len(source)} parts and target {number} has {len(target)}",
            "Regional prompts need the same regions in both, or a single source",
            "Build source and target with the same nodes",
        )
    if (widths := {cond.shape[-1] for cond, _ in (*source, *target)}) != {source[0][0].shape[-1]}:
        raise EditError(
            f"The tokens of source and target {number} have {' and '.join(map(str, sorted(widths)))} values",
            "Both must be encoded by the CLIP of one checkpoint",
            "Connect the same CLIP to both prompts",
        )


def as_mask(mask: Tensor | None, pictures: int) -> Tensor | None:
    """A mask of any of the host's shapes, (H, W), (B, H, W) or (B, 1, H, W), as (1 or pictures, H, W)."""
    if mask is None:
        return None
    flat = mask.squeeze(1) if mask.ndim == 4 and mask.shape[1] == 1 else mask
    flat = flat.unsqueeze(0) if flat.ndim == 2 else flat
    if flat.ndim != 3 or flat.shape[0] not in (1, pictures) or not flat.numel():
        raise EditError(
            f"blend_mask is {' x '.join(map(str, mask.shape))}",
            f"It must be height x width, one mask for all or one for each of {pictures} pictures",
            "Connect a MASK of that size",
        )
    return flat


def words_of(text: str) -> list[str]:
    """Phrases separated by commas."""
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]


def _all_columns(known: PromptWords, phrases: list[str]) -> tuple[int, ...]:
    return tuple(sorted({column for phrase in phrases for column in known.columns_of(phrase)}))


def make_edit(source: PromptWords, target: PromptWords, partner: int, settings: EditSettings) -> Edit:
    """The plan for one pair of encoded prompts."""
    keep, scales = target.own, []
    for phrase, (factor, *more) in parse_word_values(settings.reweight, "reweight").items():
        if more:
            raise EditError(
                f"reweight gives {phrase!r} a range", "It must be one factor, 1 for no change", "Correct it"
            )
        columns = target.require_columns(phrase, "reweight")
        scales.append((columns, factor))
        if settings.reweight_base == "own":
            keep |= set(columns)
    windows = [(settings.cross_start, settings.cross_end)] * target.length
    for phrase, window in parse_word_values(settings.word_windows, "word_windows").items():
        start, end = window if len(window) == 2 else (0.0, window[0])
        check_window(start, end, f"word_windows ({phrase})")
        for column in target.require_columns(phrase, "word_windows"):
            windows[column] = (start, end)
    matrix = _matrix(source, target, keep, settings.controller)
    return Edit(partner, matrix, tuple(windows), column_factors(target.length, scales), settings)


def join_tails(edit: Edit, source: Tensor, target: Tensor) -> Edit:
    """The edit of encoded prompts (B, L, C) that Conditioning (Concat) made longer than what their encoder noted.

    What it put behind both prompts takes the source's maps where it is the same in both; else it keeps its own, as new
    words do.
    """
    first, second = edit.matrix.shape
    count = min(source.shape[1] - first, target.shape[1] - second)
    if count <= 0 or source.shape[0] not in (1, target.shape[0]):
        return edit
    same = (source[:, first : first + count] == target[:, second : second + count]).all(dim=-1).all(dim=0).cpu()
    matrix = fill_up(fill_up(edit.matrix, first + count, 0.0, dim=0), second + count, 0.0, dim=1)
    matrix[first:, second:] = torch.diag(same.to(matrix))
    return replace(
        edit,
        matrix=matrix,
        windows=(*edit.windows, *[(edit.settings.cross_start, edit.settings.cross_end)] * count),
        scale=fill_up(edit.scale, second + count, 1.0),
    )


def _matrix(source: PromptWords, target: PromptWords, keep: set[int], controller: str) -> Tensor:
    if controller == "AttentionRefine":
        return refinement_matrix(project_prompt(target.ids, source.ids, keep), source.length)
    ours, theirs = (_word_columns(known) for known in (target, source))
    if len(ours) != len(theirs):
        raise EditError(
            f"The source has {len(theirs)} words and the target {len(ours)}",
            "AttentionReplace needs the same number in both",
            "Use AttentionRefine, or prompts with the same number of words",
        )
    changed = {
        index
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
        if [target.ids[c] for c in a] != [source.ids[c] for c in b]
    }
    return replacement_matrix(ours, theirs, changed, target.ids, source.ids, keep)


def _word_columns(known: PromptWords) -> list[list[int]]:
    """Columns of each word of a prompt, over all its chunks."""
    words, current = [], []
    owner = {column: number for number, columns in known.columns.items() for column in columns}
    for column in word_places(known.ids):
        current.append(column)
        is_vector = not known.texts[column]  # of an audio word or of an embedding, each of which is one word
        ends = owner.get(column + 1) != owner[column] if column in owner else is_vector
        if ends or known.texts[column].endswith(END_OF_WORD):
            words.append(current)
            current = []
    return words
