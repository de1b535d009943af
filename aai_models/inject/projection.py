"""Which map of the source each token of the target takes: IndexProj of Eq. 7 and prompt-to-prompt's mappers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

CHUNK = 77  # tokens of one pass of a CLIP text encoder, BOS and EOS included


def index_projection(target: Sequence[int], source: Sequence[int], keep: Collection[int] = ()) -> list[int]:
    """For each target token the source token whose map it takes, -1 where it keeps its own (Eq. 7, IndexProj).

    Token ids include BOS and EOS. `keep`: target indices that keep their own map, as A* does. Needleman-Wunsch on the
    ids (gap 0, match 1, mismatch -1; of equal paths: skip the target's token, then the source's, then match).
    """
    rows, columns = len(target), len(source)
    score = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            match = score[i - 1][j - 1] + (1 if target[i - 1] == source[j - 1] else -1)
            score[i][j] = max(score[i][j - 1], score[i - 1][j], match)
    projection = [-1] * rows
    i, j = rows, columns
    while i and j:
        if score[i][j] == score[i - 1][j]:
            i -= 1
        elif score[i][j] == score[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            projection[i] = j
    return [-1 if index in keep else source_index for index, source_index in enumerate(projection)]


def split_padding(ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Columns that carry the prompt, and columns of padding, over all chunks of `CHUNK` tokens.

    BOS, the words and the first EOS of each chunk carry the prompt; padding follows that EOS (it may be EOS again).
    """
    end = _end_of_text(ids)
    content, padding = [], []
    for start in range(0, len(ids), CHUNK):
        columns = range(start, min(start + CHUNK, len(ids)))
        last = next((c for c in columns if c > start and ids[c] == end), columns[-1])
        content += range(start, last + 1)
        padding += range(last + 1, columns[-1] + 1)
    return content, padding


def word_places(ids: Sequence[int]) -> list[int]:
    """Columns of the words of a prompt: what carries it, without BOS and the first EOS of each chunk."""
    end = _end_of_text(ids)
    return [c for c in split_padding(ids)[0] if c % CHUNK and ids[c] != end]


def _end_of_text(ids: Sequence[int]) -> int:
    """CLIP's EOS is the highest id of its vocabulary, and each chunk holds one."""
    return max(ids)


def project_prompt(target: Sequence[int], source: Sequence[int], keep: Collection[int] = ()) -> list[int]:
    """`index_projection` of whole encoded prompts with their padding, of any number of chunks.

    Padding of the target takes the map of the source's same column, as in prompt-to-prompt; where the source has fewer
    chunks it keeps its own.
    """
    target_content, padding = split_padding(target)
    source_content, _ = split_padding(source)
    inner_keep = {index for index, column in enumerate(target_content) if column in keep}
    aligned = index_projection([target[c] for c in target_content], [source[c] for c in source_content], inner_keep)
    projection = [-1] * len(target)
    for column, index in zip(target_content, aligned, strict=True):
        projection[column] = -1 if index < 0 else source_content[index]
    for column in padding:
        projection[column] = column if column < len(source) else -1
    return projection


def refinement_matrix(projection: Sequence[int], source_length: int) -> Tensor:
    """AttentionRefine: (S, T), one where target column t takes source column s."""
    matrix = torch.zeros(source_length, len(projection))
    for target, source in enumerate(projection):
        if source >= 0:
            matrix[source, target] = 1.0
    return matrix


def replacement_matrix(
    target_words: Sequence[Sequence[int]],
    source_words: Sequence[Sequence[int]],
    changed: Collection[int],
    target: Sequence[int],
    source: Sequence[int],
    keep: Collection[int] = (),
) -> Tensor:
    """AttentionReplace: (S, T); word i of the target takes the maps of word i of the source.

    `*_words`: columns of each word in order, the same number in both; target and source: token ids of whole prompts, of any
    number of chunks. A changed word of n_t tokens takes each of the n_s source maps with weight 1 / n_t, one to one where
    n_s == n_t. BOS, EOS and what follows it take those of the source's same chunk; without one they keep their own.
    """
    if len(target_words) != len(source_words):
        raise ValueError(f"AttentionReplace needs as many words in both: {len(source_words)} and {len(target_words)}")
    matrix = torch.zeros(len(source), len(target))
    for index, (ours, theirs) in enumerate(zip(target_words, source_words, strict=True)):
        if index in changed and len(ours) != len(theirs):
            for column in ours:
                matrix[list(theirs), column] = 1.0 / len(ours)
        else:
            for column, place in zip(ours, theirs, strict=True):
                matrix[place, column] = 1.0
    for start in range(0, min(len(target), len(source)), CHUNK):
        matrix[start, start] = 1.0
        ends = [_end_of_chunk(ids, start) for ids in (target, source)]
        last = min(start + CHUNK, len(source)) - 1
        for offset in range(min(start + CHUNK, len(target)) - ends[0]):
            matrix[min(ends[1] + offset, last), ends[0] + offset] = 1.0
    for column in keep:
        matrix[:, column] = 0.0
    return matrix


def _end_of_chunk(ids: Sequence[int], start: int) -> int:
    """The column of the first EOS of the chunk that begins at `start`."""
    stop, end = min(start + CHUNK, len(ids)), _end_of_text(ids)
    return next((c for c in range(start + 1, stop) if ids[c] == end), stop - 1)
