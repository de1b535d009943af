"""The plan of an edit: source and target conditionings in, one tagged conditioning for the sampler out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....aai_models.errors import EditError
from ....aai_models.inject.attention import ColumnMix, mix_columns
from ....aai_models.inject.projection import project_prompt, refinement_matrix, replacement_matrix
from ....aai_models.inject.words import END_OF_WORD, parse_word_values, phrase_columns
from ..base.prompt_words import COND_KEY
from ..base.rows import fill_up

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
        ):
            if getattr(self, name) not in allowed:
                raise EditError(
                    f"{name} is {getattr(self, name)!r}", f"It is one of {', '.join(allowed)}", "Choose one"
                )
        for kind in ("cross", "self"):
            check_window(getattr(self, f"{kind}_start"), getattr(self, f"{kind}_end"), kind)


def check_window(start: float, end: float, what: str) -> None:
    """Raise `EditError` unless 0 <= start <= end <= 1."""
    if not 0.0 <= start <= end <= 1.0:
        raise EditError(
            f"The {what} window goes from {start:g} to {end:g}",
            "A window starts before it ends, both between 0 and 1",
            f"Exchange {what}_start and {what}_end, or set both to 0 to switch it off",
        )


@dataclass(frozen=True)
class Edit:
    """How one target conditioning follows one of the source; S and T are the lengths of their prompts."""

    source: int  # which conditioning of the source
    matrix: Tensor  # (S, T), see mix_columns
    starts: Tensor  # (T,) percent
    ends: Tensor  # (T,) percent
    scale: Tensor  # (T,)
    settings: EditSettings

    def mix(self, active: Tensor, source_length: int, target_length: int) -> ColumnMix:
        """The mix while the windows `active` (T,) are open, for prompts of these lengths."""
        matrix = fill_up(fill_up(self.matrix, source_length, 0.0, dim=0), target_length, 0.0, dim=1)
        window = fill_up(active.float(), target_length, 0.0).bool()
        scale = fill_up(self.scale, target_length, 1.0)
        return mix_columns(matrix, window, scale, self.settings.reweight_window == "whole_run")


@dataclass(frozen=True)
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
    photo: str | None = None  # how a photo takes the place of a generated source


def plan(source, targets: list, settings: EditSettings, pictures: int, mask: Tensor | None = None) -> list:
    """Source and targets -> one CONDITIONING whose parts know their branch."""
    settings.validate()
    if not source or not all(targets):
        raise EditError("A conditioning is empty", "Source and target each hold a prompt", "Connect a prompt to each")
    count = 1 + len(targets)
    photo = source[0][1].get("aai_photo")
    shared = {"count": count, "pictures": pictures, "settings": settings, "blend_mask": mask, "photo": photo}
    source_words = words_of(settings.blend_words)
    planned = []
    for index, (cond, extra) in enumerate(source):
        columns = _blend_columns(known_words(cond, extra, "source"), source_words)
        planned.append([cond, {**extra, TAG: Branch(0, index, blend_columns=columns, **shared)}])
    for number, target in enumerate(targets, start=1):
        if len(source) not in (1, len(target)):
            raise EditError(
                f"The source has {len(source)} parts and target {number} has {len(target)}",
                "Regional prompts need the same regions in both, or a single source",
                "Build source and target with the same nodes",
            )
        if (widths := {cond.shape[-1] for cond, _ in (*source, *target)}) != {source[0][0].shape[-1]}:
            raise EditError(
                f"The words of source and target {number} have {' and '.join(map(str, sorted(widths)))} values",
                "Both are encoded by the CLIP of one checkpoint",
                "Connect the same CLIP to both prompts",
            )
        for index, (cond, extra) in enumerate(target):
            partner = 0 if len(source) == 1 else index
            known_source = known_words(*source[partner], "source")
            known = known_words(cond, extra, f"target {number}")
            edit = join_tails(make_edit(known_source, known, partner, settings), source[partner][0], cond)
            columns = _blend_columns(known, source_words)
            planned.append([cond, {**extra, TAG: Branch(number, index, edit=edit, blend_columns=columns, **shared)}])
    if source_words and not any(extra[TAG].blend_columns for _, extra in planned):
        raise EditError(
            f"Neither prompt holds {settings.blend_words!r}", "blend_words are words of the prompts", "Correct them"
        )
    return planned


def words_of(text: str) -> list[str]:
    """Phrases separated by commas."""
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]


def _blend_columns(known: dict, phrases: list[str]) -> tuple[int, ...]:
    return tuple(c for phrase in phrases for c in phrase_columns(known["texts"], known["columns"], phrase))


def known_words(cond: Tensor, extra: dict, what: str) -> dict:
    """What the prompt's encoder noted; raises `EditError` where it is missing or does not belong to `cond`."""
    known = extra.get(COND_KEY)
    if known is None or "ids" not in known:
        raise EditError(
            f"The {what} conditioning does not say which words it holds",
            "Source and target are encoded by Prompt with Sounds, which needs no sound for that",
            "Replace CLIP Text Encode by Prompt with Sounds",
        )
    if cond.shape[1] < known["length"]:
        raise EditError(
            f"The {what} conditioning has {cond.shape[1]} tokens, its prompt {known['length']}",
            "The conditioning is that of its prompt",
            "Connect Prompt with Sounds directly",
        )
    return known


def make_edit(source: dict, target: dict, partner: int, settings: EditSettings) -> Edit:
    """The plan for one pair of encoded prompts."""
    length = target["length"]
    keep = {column for columns in target["columns"].values() for column in columns} | set(target.get("kept", ()))
    scale = torch.ones(length)
    for phrase, (factor, *more) in parse_word_values(settings.reweight, "reweight").items():
        if more:
            raise EditError(f"reweight gives {phrase!r} a range", "It takes one factor, 1 for no change", "Correct it")
        columns = require_columns(target, phrase, "reweight")
        scale[columns] = factor
        if settings.reweight_base == "own":
            keep |= set(columns)
    starts, ends = (torch.full((length,), value) for value in (settings.cross_start, settings.cross_end))
    for phrase, window in parse_word_values(settings.word_windows, "word_windows").items():
        start, end = window if len(window) == 2 else (0.0, window[0])
        check_window(start, end, f"word_windows ({phrase})")
        columns = require_columns(target, phrase, "word_windows")
        starts[columns], ends[columns] = start, end
    matrix = _matrix(source, target, keep, settings.controller)
    return Edit(partner, matrix, starts, ends, scale, settings)


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
        starts=fill_up(edit.starts, second + count, edit.settings.cross_start),
        ends=fill_up(edit.ends, second + count, edit.settings.cross_end),
        scale=fill_up(edit.scale, second + count, 1.0),
    )


def require_columns(known: dict, phrase: str, what: str) -> list[int]:
    """The columns of a phrase; raises `EditError` if the prompt does not hold it."""
    columns = phrase_columns(known["texts"], known["columns"], phrase)
    if not columns:
        words = " ".join(text.removesuffix(END_OF_WORD) for text in known["texts"] if text)
        raise EditError(
            f"{what} names {phrase!r}, which the prompt does not hold", f"The prompt reads: {words}", "Use its words"
        )
    return columns


def _matrix(source: dict, target: dict, keep: set[int], controller: str) -> Tensor:
    if controller == "AttentionRefine":
        return refinement_matrix(project_prompt(target["ids"], source["ids"], keep), source["length"])
    ours, theirs = (_word_columns(known) for known in (target, source))
    if len(ours) != len(theirs):
        raise EditError(
            f"The source has {len(theirs) - 2} words and the target {len(ours) - 2}",
            "AttentionReplace exchanges word for word",
            "Use AttentionRefine, or prompts with the same number of words",
        )
    changed = {
        index
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
        if [target["ids"][c] for c in a] != [source["ids"][c] for c in b]
    }
    return replacement_matrix(ours, theirs, changed, target["length"], source["length"], keep)


def _word_columns(known: dict) -> list[list[int]]:
    """Columns of BOS, of each word, and of the first EOS of a prompt of one chunk."""
    words: list[list[int]] = [[0]]
    current: list[int] = []
    owner = {column: number for number, columns in known["columns"].items() for column in columns}
    end = max(known["ids"])
    for column in range(1, known["length"]):
        if known["ids"][column] == end:
            return [*words, [column]]
        current.append(column)
        last_of_vector = column in owner and owner.get(column + 1) != owner[column]
        if known["texts"][column].endswith(END_OF_WORD) or last_of_vector:
            words.append(current)
            current = []
    return words
