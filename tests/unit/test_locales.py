"""The nodes in the languages of ComfyUI: every text, with the figures, words and marks that it has in English."""

from __future__ import annotations

import json
import re

import pytest
from aai_pack.devtools import locales

ENGLISH = json.loads(locales.ENGLISH.read_text(encoding="utf-8"))
# Names that a translation must keep: widgets' values, words of a prompt, formats, and figures.
KEPT = re.compile(
    r"<A\d?\*?>|A\*|\b[a-z]+_[a-z_]+\b|\bEq\. \d|\b(?:CLIP|UNet|VAE|LUFS|CAVT-MAE|LoRA)\b|\d+(?:\.\d+)?", re.ASCII
)


@pytest.mark.parametrize("language", locales.LANGUAGES)
class TestLanguage:
    def test_nothing_is_missing(self, language):
        assert not locales.missing(language)

    def test_nothing_is_left_over(self, language):
        assert not locales.dictionary(language).keys() - set(locales.texts_of(ENGLISH))

    def test_the_editor_gets_what_the_dictionary_says(self, language):
        for path, content in locales.files_of(language).items():
            assert path.read_text(encoding="utf-8") == content, "run: python dev.py generate"

    def test_sentences_are_translated(self, language):
        same = [text for text, own in locales.dictionary(language).items() if text == own and text.count(" ") > 2]
        assert not same

    def test_names_and_figures_are_kept(self, language):
        for text, own in locales.dictionary(language).items():
            if " " in text:
                assert sorted(set(KEPT.findall(text))) == sorted(set(KEPT.findall(own))), text


def test_signs_that_are_syntax_to_the_editor():
    assert locales.escaped("a@b {c} d|e") == "a{'@'}b {'{'}c{'}'} d{'|'}e"


def test_a_changed_text_is_missing():
    assert locales.translated({"a": {"b": "new", "c": "old"}}, {"old": "alt"}) == {"a": {"c": "alt"}}
