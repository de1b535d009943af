"""Prompts for the paper's three uses."""

from __future__ import annotations

import pytest
from aai_pack.aai_models.errors import EditError
from aai_pack.aai_models.inject.templates import USES, build_prompts


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("generate", ("a photo", "a photo of <A*>")),
        ("edit", ("a photo", "a photo with <A*>")),
        ("stylise", ("a photo", "a photo in the style of <A*>")),
    ],
)
def test_uses(use, expected):
    assert build_prompts(use, " a  photo ")[:2] == expected


def test_a_scene_that_places_the_word_itself():
    source, target, *windows = build_prompts("edit", "a dog hears <A*> at night")
    assert (source, target) == ("a dog hears at night", "a dog hears <A*> at night")
    assert windows == [USES["edit"].cross_end, USES["edit"].self_end]


def test_braces_are_words_of_the_artist():
    assert build_prompts("edit", "a {red|blue} dog {x}")[0] == "a {red|blue} dog {x}"


@pytest.mark.parametrize(("use", "scene"), [("dance", "a dog"), ("edit", "  ")])
def test_refusals(use, scene):
    with pytest.raises(EditError):
        build_prompts(use, scene)


@pytest.mark.parametrize(
    ("scene", "source"),
    [
        ("a beach with (<A*>:1.3)", "a beach with"),
        ("a ((<A*>)) beach", "a beach"),
        (r"a \(<A*>\) beach", "a beach"),
        ("a beach, <A*>, sunset", "a beach, sunset"),
        ("<A*>, a beach", "a beach"),
        ("a beach, (<A*>:1.2)", "a beach"),
        ("(a storm of <A*>:1.3) at sea", "(a storm of:1.3) at sea"),
        ("(<A*>, <A2>:1.1) sea", "sea"),
        ("a {red|blue} <A*> dog", "a {red|blue} dog"),
    ],
)
def test_the_source_has_nothing_left_of_the_word(scene, source):
    assert build_prompts("edit", scene)[:2] == (source, scene)
