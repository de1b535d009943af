"""Eq. 7's IndexProj and prompt-to-prompt's mappers."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.inject.projection import (
    CHUNK,
    index_projection,
    project_prompt,
    refinement_matrix,
    replacement_matrix,
    split_padding,
)
from hypothesis import given
from hypothesis import strategies as st

BOS, EOS = 49406, 49407
VOCABULARY: dict[str, int] = {}


def ids(prompt: str) -> list[int]:
    words = [-7 if word == "A*" else VOCABULARY.setdefault(word, 1000 + len(VOCABULARY)) for word in prompt.split()]
    return [BOS, *words, EOS]


def padded(prompt: str, pad: int = EOS) -> list[int]:
    tokens = ids(prompt)
    return tokens + [pad] * (CHUNK - len(tokens))


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("a sea with A* along the beach", "a sea along the beach", [0, 1, 2, -1, -1, 3, 4, 5, 6]),
        ("a city under A*", "a city", [0, 1, 2, -1, -1, 3]),
        ("a forest in the style of A*", "a forest", [0, 1, 2, -1, -1, -1, -1, -1, 3]),
        ("a photo of a A*", "a photo of a dog", [0, 1, 2, 3, 4, -1, 6]),
        ("a photo of a A* tiger", "a photo of a tiger", [0, 1, 2, 3, 4, -1, 5, 6]),
        ("a cat", "a small cat", [0, 1, 3, 4]),
        ("", "", [0, 1]),
    ],
)
def test_oracles(target, source, expected):
    assert index_projection(ids(target), ids(source)) == expected


def test_kept_tokens_keep_their_own_map():
    tokens = ids("a dog with A*")
    assert index_projection(tokens, tokens) == [0, 1, 2, 3, 4, 5]
    assert index_projection(tokens, tokens, keep=[4]) == [0, 1, 2, 3, -1, 5]


tokens_of = st.lists(st.integers(1, 6), max_size=20)


@given(tokens_of, tokens_of)
def test_a_projection_matches_equal_tokens_in_order(target, source):
    projection = index_projection(target, source)
    taken = [s for s in projection if s >= 0]
    assert taken == sorted(set(taken))
    assert all(target[t] == source[s] for t, s in enumerate(projection) if s >= 0)


@given(tokens_of)
def test_a_prompt_projects_onto_itself(tokens):
    assert index_projection(tokens, tokens) == list(range(len(tokens)))


@pytest.mark.parametrize("pad", [EOS, 0])
def test_padding_takes_the_same_column(pad):
    projection = project_prompt(padded("a city under A*", pad), padded("a city", pad), keep=[4])
    assert projection[:6] == [0, 1, 2, -1, -1, 3]
    assert projection[6:] == list(range(6, CHUNK))


def test_a_longer_target_keeps_its_own_maps_in_chunks_that_the_source_lacks():
    long = padded("a city") + padded("under A*")
    projection = project_prompt(long, padded("a city"))
    assert projection[:3] == [0, 1, 2]
    assert set(projection[CHUNK + 1 : -1]) <= {-1, 3}
    assert projection[CHUNK + 10 :] == [-1] * (CHUNK - 10)
    assert project_prompt(long, long) == list(range(2 * CHUNK))


def test_content_and_padding_of_two_chunks():
    content, padding = split_padding(padded("a city") + padded("under"))
    assert content == [0, 1, 2, 3, CHUNK, CHUNK + 1, CHUNK + 2]
    assert len(content) + len(padding) == 2 * CHUNK


def test_refinement_matrix():
    matrix = refinement_matrix([0, 2, -1], 4)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_replacement_of_a_word_of_one_token_by_one_of_two():
    target, source = [BOS, 1, 2, 3, EOS, EOS, EOS], [BOS, 1, 4, EOS, EOS, EOS, EOS]
    matrix = replacement_matrix([[1], [2, 3]], [[1], [2]], {1}, target, source)
    assert matrix[2].tolist() == [0, 0, 0.5, 0.5, 0, 0, 0]
    # The rest of the source is followed to its end; the reference repeats the target's columns there.
    assert matrix[:, 4:].argmax(dim=0).tolist() == [3, 4, 5]
    assert torch.equal(matrix.sum(dim=0), torch.tensor([1, 1, 0.5, 0.5, 1, 1, 1]))


def test_replacement_needs_as_many_words():
    with pytest.raises(ValueError, match="as many words"):
        replacement_matrix([[1]], [[1], [2]], set(), [BOS, 1, EOS], [BOS, 1, 2, EOS])
