"""Audio words in prompts: a private tokenizer that knows them, and where they stand afterwards."""

from __future__ import annotations

import copy
import re
import zlib

import comfy.sd1_clip
from torch import Tensor

from ....aai_models.adapt.token import AudioToken
from ....aai_models.errors import TokenError
from ....aai_models.inject.words import replace_words, require_words

SPELLED = re.compile(r"__aai_(\d+)__(.*)", re.DOTALL)
FAMILIES = ("clip_l", "clip_g", "clip_h")  # text encoders of SD1.x, SDXL and SD2.x
# On each conditioning: {"length": tokens, "columns": {number: [column, ...]}, "ids": [id of each column; negative for rows
# that are vectors], "texts": [what each column spells, "" for specials, padding and vectors]}.
COND_KEY = "aai_tokens"


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
            "Audio words work with the text encoders of SD1.x, SD2.x and SDXL; T5, Qwen and Gemma come later",
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
            "A word is made with all text encoders of its family, and works in the refiner as well",
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
                "Use it with a checkpoint of the family that it was trained with, or train it again with this one",
            )


def _list(widths: dict[str, int]) -> str:
    return ", ".join(f"{key} ({width} wide)" for key, width in sorted(widths.items()))


def encode(clip, text: str, tokens: dict[int, AudioToken]):
    """Encode a prompt with audio words -> CONDITIONING that knows their columns; without any, exactly the stock encode."""
    numbers = require_words(text, set(tokens))
    if not numbers:
        tokenized = clip.tokenize(text)
        known = isinstance(tokenized, dict) and any(key in FAMILIES for key in map(_embedding_key(clip), tokenized))
        extra = {COND_KEY: describe(clip, tokenized, {})} if known else {}
        return clip.encode_from_tokens_scheduled(tokenized, add_dict=extra)
    check_tokens(clip, {number: tokens[number] for number in numbers})
    table = {number: tokens[number].vectors for number in numbers}
    private = with_words(clip, table)
    tokenized = private.tokenize(replace_words(text, spell))
    return private.encode_from_tokens_scheduled(tokenized, add_dict={COND_KEY: describe(clip, tokenized, table)})


def _embedding_key(clip):
    """Key of a tokenized prompt ("l", "g", "h") -> embedding key of its text encoder ("clip_l", ...)."""
    tokenizers = {name: t.embedding_key for name, t in sub_tokenizers(clip).items()}
    return lambda key: tokenizers.get(f"clip_{key}", tokenizers.get(key))


def describe(clip, tokenized: dict, table: dict[int, dict[str, Tensor]]) -> dict:
    """What later nodes need to know of an encoded prompt: see `COND_KEY`."""
    found = find_columns(tokenized, table)
    key = "l" if "l" in tokenized else next(iter(tokenized))  # pads of CLIP-L are EOS, whose maps carry the picture
    tokenizer = next(t for t in sub_tokenizers(clip).values() if t.embedding_key == _embedding_key(clip)(key))
    special = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}
    entries = [entry[0] for chunk in tokenized[key] for entry in chunk]
    entries += [tokenizer.end_token] * (found["length"] - len(entries))
    texts = ["" if isinstance(e, Tensor) or e in special else tokenizer.inv_vocab.get(e, "") for e in entries]
    return {**found, "ids": [_identity(entry) for entry in entries], "texts": texts}


def _identity(entry) -> int:
    """A token's id; a vector's is negative and the same for equal vectors."""
    if not isinstance(entry, Tensor):
        return int(entry)
    return -1 - zlib.crc32(entry.detach().float().cpu().contiguous().numpy().tobytes())


def find_columns(tokenized: dict, table: dict[int, dict[str, Tensor]]) -> dict:
    """Where the rows of each audio word stand in the encoded prompt, counted over all its chunks."""
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
            "The audio word stands at different places for the two text encoders",
            "Each encoder needs the same number of vectors",
            "Train or save the token again",
        )
    return {"length": length, "columns": first}


def _owner(entry, table) -> int | None:
    """The number of the word whose storage a token entry is a row of."""
    if not isinstance(entry, Tensor):
        return None
    for number, vectors in table.items():
        for rows in vectors.values():
            if entry.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr():
                return number
    return None
