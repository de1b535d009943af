"""Audio words in prompts: a private tokenizer that knows them, and where they stand afterwards."""

from __future__ import annotations

import copy
import logging
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import comfy.sd1_clip
from torch import Tensor

from ....aai_models.adapt.token import AudioToken
from ....aai_models.errors import EditError, TokenError
from ....aai_models.inject.words import INSIDE_EMBEDDING, WrittenWords, near_misses, replace_words, require_words
from .messages import tell

log = logging.getLogger(__name__)

SPELLED = re.compile(r"__aai_(\d+)__(.*)", re.DOTALL)
FAMILIES = ("clip_l", "clip_g", "clip_h")  # text encoders of SD1.x, SDXL and SD2.x
COND_KEY = "aai_tokens"  # on each conditioning of `encode`: its `PromptWords`


@dataclass(frozen=True)
class PromptWords:
    """Which words an encoded prompt holds, and at which columns. Never written to: conditionings that are copied share it."""

    prompt: str  # as the artist wrote it
    length: int  # columns
    columns: dict[int, tuple[int, ...]]  # of each audio word, by its number
    ids: tuple[int, ...]  # of each column's token; negative for vectors, the same for equal ones
    texts: tuple[str, ...]  # what each column spells in CLIP's vocabulary, "" for specials, padding and vectors
    kept: tuple[int, ...] = ()  # columns that an edit leaves their own maps, besides audio words

    @classmethod
    def of(cls, extra: dict) -> PromptWords | None:
        """What is noted on a conditioning's dict; None where its prompt was encoded by another node."""
        known = extra.get(COND_KEY)
        return known if isinstance(known, cls) else None

    @classmethod
    def require(cls, cond: Tensor, extra: dict, what: str) -> PromptWords:
        """What is noted; raises `EditError` where it is missing or does not belong to `cond` (B, L, C)."""
        known = cls.of(extra)
        if known is None:
            raise EditError(
                f"The {what} conditioning does not say which words it holds",
                "Source and target must come from Prompt with Sounds, which also works without a sound",
                "Replace CLIP Text Encode with Prompt with Sounds",
            )
        if cond.shape[1] < known.length:
            raise EditError(
                f"The {what} conditioning has {cond.shape[1]} tokens, its prompt {known.length}",
                "Both must be of the same length",
                "Connect Prompt with Sounds directly",
            )
        return known

    def columns_of(self, phrase: str) -> list[int]:
        """The columns of all places where a word or phrase is written; empty if it is not."""
        return WrittenWords(self.texts, self.columns).find(phrase)

    def require_columns(self, phrase: str, what: str) -> list[int]:
        """`columns_of`; raises `EditError` if the prompt does not hold the phrase."""
        columns = self.columns_of(phrase)
        if not columns:
            raise unknown_words([phrase], [self], what)
        return columns

    @property
    def own(self) -> set[int]:
        """Columns that keep their own maps in an edit: those of audio words, and what was asked to be kept."""
        return {column for places in self.columns.values() for column in places} | set(self.kept)

    def keep(self, columns: Iterable[int]) -> PromptWords:
        """The same prompt with more columns that an edit leaves their own maps."""
        return replace(self, kept=tuple(sorted({*self.kept, *columns})))


def missing_words(phrases: Iterable[str], prompts: Iterable[PromptWords]) -> list[str]:
    """The phrases that none of the prompts holds."""
    prompts = list(prompts)
    return [phrase for phrase in phrases if not any(known.columns_of(phrase) for known in prompts)]


def unknown_words(phrases: list[str], prompts: Iterable[PromptWords], what: str) -> EditError:
    """The error that names phrases which no prompt holds."""
    read = " | ".join(dict.fromkeys(known.prompt for known in prompts))
    some = len({known.prompt for known in prompts}) > 1
    return EditError(
        f"{what} names {', '.join(map(repr, phrases))}, which {'no prompt holds' if some else 'the prompt does not hold'}",
        f"The {'prompts read' if some else 'prompt reads'}: {read}",
        "Use words of the prompt, with the same spelling",
    )


def spell(number: int) -> str:
    """How a prompt names an audio word for the private tokenizer; `embedding:` needs white space around it."""
    return f" embedding:__aai_{number}__ "


def sub_tokenizers(clip) -> dict[str, comfy.sd1_clip.SDTokenizer]:
    """Attribute name -> tokenizer, for each text encoder of a CLIP."""
    return {n: t for n, t in vars(clip.tokenizer).items() if isinstance(t, comfy.sd1_clip.SDTokenizer)}


def require_family(clip) -> dict[str, comfy.sd1_clip.SDTokenizer]:
    """The text encoders by embedding key; raises `TokenError` for families that the pack does not know."""
    found = {t.embedding_key: t for t in sub_tokenizers(clip).values()}
    if not found or not set(found) <= set(FAMILIES):
        raise TokenError(
            f"The connected CLIP uses {', '.join(sorted(found)) or 'an unknown text encoder'}",
            "Audio words work with the text encoders of SD1.x, SD2.x and SDXL; T5, Qwen and Gemma are not supported yet",
            "Load a checkpoint of one of these families",
        )
    return found


def require_encoders(clip) -> dict[str, comfy.sd1_clip.SDTokenizer]:
    """`require_family` for work on the text encoders themselves: SDXL's refiner has the tokenizers of both, and one."""
    found = require_family(clip)
    missing = [t.embedding_key for name, t in sub_tokenizers(clip).items() if not hasattr(clip.cond_stage_model, name)]
    if missing:
        raise TokenError(
            f"The connected CLIP has no {', '.join(missing)}, as that of SDXL's refiner",
            "A word needs all text encoders of its family; it then works in the refiner as well",
            "Connect the CLIP of the base model",
        )
    return found


def with_words(clip, table: dict[int, dict[str, Tensor]]):
    """A clone of `clip` whose tokenizer turns `spell(number)` into the rows (n, width) of `table[number]`.

    `CLIP.clone` shares the tokenizer with the original, so it is copied here: nothing leaks into other nodes.
    """
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    for name, tokenizer in sub_tokenizers(clip).items():
        private = copy.copy(tokenizer)
        if private.embedding_directory is None:  # then the host would not look for embeddings at all
            private.embedding_directory = []
        private._try_get_embedding = _resolver(private, type(tokenizer)._try_get_embedding, table)
        setattr(clone.tokenizer, name, private)
    return clone


def _resolver(tokenizer, base, table):
    def resolve(text, *args, **kwargs):
        match = SPELLED.match(text)
        if match is None:
            return base(tokenizer, text, *args, **kwargs)
        # Hosts differ in how much they return between the embedding and the rest of the text.
        between = base(tokenizer, "__aai_none__", *args, **kwargs)[1:-1]
        return (table[int(match[1])][tokenizer.embedding_key], *between, match[2].strip())

    return resolve


def check_tokens(clip, tokens: dict[int, AudioToken]) -> None:
    """Raise `TokenError` unless every token has a vector of the right width for each text encoder of `clip`."""
    encoders = require_family(clip)
    for number, token in tokens.items():
        widths = {key: adapter.shape[-1] for key, adapter in token.adapters.items()}
        wanted = {key: tokenizer.embedding_size for key, tokenizer in encoders.items()}
        if any(widths.get(key) != width for key, width in wanted.items()):
            raise TokenError(
                f"Audio token {number} was made for {_list(widths)}",
                f"The connected CLIP needs {_list(wanted)}",
                "Use a checkpoint of the family that it was trained with, or train it again with this one",
            )


def _list(widths: dict[str, int]) -> str:
    return ", ".join(f"{key} ({width} wide)" for key, width in sorted(widths.items()))


def encode(clip, text: str, tokens: dict[int, AudioToken]):
    """Encode a prompt with audio words -> CONDITIONING that knows their columns; without any, exactly the stock encode."""
    _check_spelling(text)
    numbers = require_words(text, set(tokens))
    if not numbers:
        tokenized = clip.tokenize(text)
        known = isinstance(tokenized, dict) and any(key in FAMILIES for key in map(_embedding_key(clip), tokenized))
        extra = {COND_KEY: describe(clip, text, tokenized, {})} if known else {}
        return clip.encode_from_tokens_scheduled(tokenized, add_dict=extra)
    check_tokens(clip, {number: tokens[number] for number in numbers})
    table = {number: tokens[number].vectors for number in numbers}
    private = with_words(clip, table)
    tokenized = private.tokenize(replace_words(text, spell))
    return private.encode_from_tokens_scheduled(tokenized, add_dict={COND_KEY: describe(clip, text, tokenized, table)})


def _check_spelling(text: str) -> None:
    """Raise `TokenError` for what cannot be read; say what looks like an audio word and is none."""
    if INSIDE_EMBEDDING.search(text):
        raise TokenError(
            "The prompt has an audio word behind embedding:",
            "<A*> stands for a connected word; embedding: names a file in models/embeddings",
            "Write <A*> alone, or embedding: with the name of a file",
        )
    if misspelled := near_misses(text):
        message = (
            f"{', '.join(misspelled)} is read as ordinary text. Write an audio word as <A*> or <A2>, with its weight outside: "
            "(<A*>:1.2)."
        )
        log.warning(message)
        tell(message)


def _embedding_key(clip):
    """Key of a tokenized prompt ("l", "g", "h") -> embedding key of its text encoder ("clip_l", ...)."""
    tokenizers = {name: t.embedding_key for name, t in sub_tokenizers(clip).items()}
    return lambda key: tokenizers.get(f"clip_{key}", tokenizers.get(key))


def describe(clip, text: str, tokenized: dict, table: dict[int, dict[str, Tensor]]) -> PromptWords:
    """What later nodes need to know of an encoded prompt."""
    columns, length = find_columns(tokenized, table)
    key = "l" if "l" in tokenized else next(iter(tokenized))  # pads of CLIP-L are EOS, whose maps carry the picture
    tokenizer = next(t for t in sub_tokenizers(clip).values() if t.embedding_key == _embedding_key(clip)(key))
    special = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}
    entries = [entry[0] for chunk in tokenized[key] for entry in chunk]
    entries += [tokenizer.end_token] * (length - len(entries))
    texts = ("" if isinstance(e, Tensor) or e in special else tokenizer.inv_vocab.get(e, "") for e in entries)
    return PromptWords(text, length, columns, tuple(map(_identity, entries)), tuple(texts))


def _identity(entry) -> int:
    """A token's id; a vector's is negative and the same for equal vectors."""
    if not isinstance(entry, Tensor):
        return int(entry)
    return -1 - zlib.crc32(entry.detach().float().cpu().contiguous().numpy().tobytes())


def find_columns(tokenized: dict, table: dict[int, dict[str, Tensor]]) -> tuple[dict[int, tuple[int, ...]], int]:
    """(columns of each audio word in the encoded prompt, counted over all its chunks; how many columns it has)."""
    found: dict[str, dict[int, list[int]]] = {}
    length = 0
    for key, chunks in tokenized.items():
        columns: dict[int, list[int]] = {number: [] for number in table}
        offset = 0
        for chunk in chunks:
            for position, entry in enumerate(chunk):
                number = _owner(entry[0], table)
                if number is not None:
                    columns[number].append(offset + position)
            offset += len(chunk)
        found[key], length = columns, max(length, offset)
    first, *others = found.values()
    if any(other != first for other in others):
        raise TokenError(
            "The audio word is at different positions for the two text encoders",
            "Each encoder needs the same number of vectors",
            "Train or save the token again",
        )
    return {number: tuple(places) for number, places in first.items()}, length


def _owner(entry, table) -> int | None:
    """The number of the word whose storage a token entry is a row of."""
    if not isinstance(entry, Tensor):
        return None
    for number, vectors in table.items():
        for rows in vectors.values():
            if entry.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr():
                return number
    return None
