"""Audio words in prompts."""

from __future__ import annotations

import pytest
from aai_pack.aai_models.errors import TokenError
from aai_pack.aai_models.inject.words import find_words, replace_words, require_words


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a photo of <A*>", [1]),
        ("a photo of <A1>", [1]),
        ("<A2> beside <A*> and <A2>", [2, 1]),
        ("(<A*>:1.3), sharp", [1]),
        ("<A*><A2>", [1, 2]),
        ("<A12>", [12]),
        ("no sound, <B*>, A*, <A>, < A* >, <a*>", []),
        ("", []),
    ],
)
def test_find(text, numbers):
    assert find_words(text) == numbers


def test_replace_leaves_the_rest_alone():
    assert replace_words("a <A*>, b <A3>; <A>", lambda n: f"#{n}") == "a #1, b #3; <A>"


def test_a_word_needs_its_sound():
    assert require_words("<A*> and <A2>", {1, 2}) == [1, 2]
    with pytest.raises(TokenError, match=r"<A2>, but no audio token 2.*Connected are: <A\*>"):
        require_words("<A2>", {1})
    with pytest.raises(TokenError, match="Connect an audio token"):
        require_words("<A*>", set())
