"""Whoever reads ComfyUI in another language than a help page has gets the English one."""

from __future__ import annotations

from aai_pack.devtools import help_pages


def test_the_page_for_other_languages_is_the_english_one():
    wanted = help_pages.fallbacks()
    assert len(wanted) > 20 and wanted.keys() == set(help_pages.FOLDER.glob("*.md"))
    stale = [path.name for path, text in wanted.items() if path.read_bytes() != text]
    assert not stale, "run `python dev.py generate`"
