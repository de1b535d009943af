"""Help pages: English, six more languages of the same content, and the page for whoever reads ComfyUI in another one."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from aai_pack.devtools import help_pages, locales
from PIL import Image

BAR = r"(?<!\\)\|"  # between cells; not one that is written
NODES = sorted(path.parent.name for path in help_pages.FOLDER.glob("*/en.md"))


def page(node: str, language: str) -> str:
    return (help_pages.FOLDER / node / f"{language}.md").read_text(encoding="utf-8")


def shape(text: str) -> list[str]:
    """What a page consists of, in order: headings, steps, points, rows of tables with their width, pictures."""
    kinds = {"#": "heading", "- ": "point", "!": "picture"}
    found = []
    for line in text.splitlines():
        if line.startswith("|"):
            found.append(f"row of {len(re.findall(BAR, line)) - 1}")
        elif re.match(r"\d+\. ", line):
            found.append(f"step {line.partition('.')[0]}")
        else:
            found += [kind for start, kind in kinds.items() if line.startswith(start)]
    return found


def test_the_page_for_other_languages_is_the_english_one():
    wanted = help_pages.fallbacks()
    assert len(wanted) > 20 and wanted.keys() == set(help_pages.FOLDER.glob("*.md"))
    stale = [path.name for path, text in wanted.items() if path.read_bytes() != text]
    assert not stale, "run `python dev.py generate`"


@pytest.mark.parametrize("language", help_pages.LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_a_translation_says_what_the_english_page_says(node, language):
    english, text = page(node, "en"), page(node, language)
    assert shape(text) == shape(english)
    names = [Counter(re.findall(r"`[^`\n]+`", one)) for one in (text, english)]
    assert names[0] == names[1], "names, values and prompts in backticks"
    title = locales.english_texts()["nodeDefs"][node]["display_name"]
    assert text.startswith(f"# {locales.dictionary(language).get(title, title)}\n")


@pytest.mark.parametrize("node", NODES)
def test_each_page_shows_its_node(node):
    assert f"]({node}/{help_pages.PICTURE})" in page(node, "en")
    path = help_pages.FOLDER / node / help_pages.PICTURE
    with Image.open(path) as picture:
        assert picture.format == "JPEG" and min(picture.size) > 60
    assert path.stat().st_size < 60_000
