"""Help pages: the editor asks for `<Node>/<its language>.md`, then for `<Node>.md`, which is the English page again."""

from __future__ import annotations

from pathlib import Path

from .hosts import ROOT

FOLDER = ROOT / "web" / "docs"
LANGUAGES = ("de", "es", "fr", "ja", "ko", "zh")  # besides English
PICTURE = "node.jpg"  # beside a node's pages: what it looks like in the editor


def fallbacks() -> dict[Path, bytes]:
    """The page for languages that a node has no page of -> what it must hold."""
    return {page.parent.with_suffix(".md"): page.read_bytes() for page in sorted(FOLDER.glob("*/en.md"))}


def write_fallbacks() -> None:
    for path, text in fallbacks().items():
        path.write_bytes(text)
