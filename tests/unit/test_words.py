"""Audio words in prompts."""

from __future__ import annotations

import pytest
from aai_pack.aai_models.errors import EditError, TokenError
from aai_pack.aai_models.inject.words import (
    find_words,
    near_misses,
    parse_word_values,
    replace_words,
    require_words,
)


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<a*> at sea", ["<a*>"]),
        ("<A *> and <A*:1.2>", ["<A *>", "<A*:1.2>"]),
        ("\uff1cA*\uff1e, \u3008A2\u3009", ["\uff1cA*\uff1e", "\u3008A2\u3009"]),
        ("<A> twice <A>", ["<A>"]),
        ("<A*>, <A2>, (<A*>:1.3), <B*>, <artist>, a < b > c", []),
    ],
)
def test_near_misses(text, found):
    assert near_misses(text) == found


@pytest.mark.parametrize(
    "line", ["x: nan", "x: inf", "x: -1", "x: 1-inf", "x: 1--2", "x:", ": 2", "x: 1,5", "x: 1e999"]
)
def test_values_that_are_no_numbers_are_refused(line):
    with pytest.raises(EditError, match="a word, a colon and a number"):
        parse_word_values(line, "reweight")


def test_values():
    text = "rain: 1.5\n<A*>: .5; the red car: 0.2 - 0.8\npikachu_(pokemon): 1e-1"
    assert parse_word_values(text, "reweight") == {
        "rain": (1.5,),
        "<A*>": (0.5,),
        "the red car": (0.2, 0.8),
        "pikachu_(pokemon)": (0.1,),
    }
