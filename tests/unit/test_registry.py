"""What ComfyUI's registry reads and shows: pyproject.toml, icon and banner, a README whose links work there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from aai_pack.devtools import registry
from aai_pack.devtools.registry import LINK, PLACEHOLDER, PUBLISHED
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_one_version_everywhere():
    version = re.search(r'^version = "(\d+\.\d+\.\d+)"$', PROJECT, re.MULTILINE)[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == version
    assert f"pack {version}" in (ROOT / ".github/ISSUE_TEMPLATE/fault.yml").read_text(encoding="utf-8")
    assert registry.changes(changelog) and "\n## " not in registry.changes(changelog)


def test_what_the_registry_asks_for():
    for name in ("Homepage", "Documentation", "Repository", "Issues", "Icon", "Banner"):
        assert re.search(rf'^{name} = "https://\S+"$', PROJECT, re.MULTILINE), name
    # Only what the tests run on: a GPU named here makes the pack look unsupported on all others.
    assert 'classifiers = ["Operating System :: OS Independent"]' in PROJECT
    for address in re.findall(r'^(?:Icon|Banner) = "(\S+)"$', PROJECT, re.MULTILINE):
        assert (ROOT / address.partition(f"{PUBLISHED}/main/")[2]).is_file(), address


def test_icon_and_banner_are_what_the_script_draws(tmp_path):
    from aai_pack.lab import art

    art.main(tmp_path)
    for name in ("icon.png", "banner.png"):
        drawn, kept = (Image.open(folder / name).convert("RGB") for folder in (tmp_path, ROOT / "assets"))
        assert drawn.size == kept.size
        difference = np.abs(np.asarray(drawn, dtype=float) - np.asarray(kept, dtype=float)).mean()
        assert difference < 4.0, "of 255: letters differ a little from one Pillow to another"
        assert (ROOT / "assets" / name).stat().st_size < 60_000
    width, height = Image.open(ROOT / "assets/icon.png").size
    assert width == height < 400
    width, height = Image.open(ROOT / "assets/banner.png").size
    assert width * 9 == height * 21


@pytest.mark.parametrize("page", ["README.md", "docs/security.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in LINK.finditer(text):
        target = match["target"].partition("#")[0]
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_readme_stands_on_the_registrys_page():
    text = registry.standing_links(README, "someone/a-fork", "v0.2.0")
    assert not LINK.search(text) and PLACEHOLDER not in text and PLACEHOLDER in README
    assert "![" in text and "https://raw.githubusercontent.com/someone/a-fork/v0.2.0/assets/edit.png" in text
    assert "https://github.com/someone/a-fork/blob/v0.2.0/docs/pocket.md#misses-and-the-likely-reasons" in text
    assert "git clone https://github.com/someone/a-fork comfyui-align-adapt-inject" in text
    assert re.findall(r"\(https?://[^)]+\)", README)[0] in text, "addresses that are whole already stay"


def test_the_published_addresses_are_those_of_the_repository_that_publishes():
    text = registry.published_addresses(PROJECT, "someone/a-fork", "v0.2.0")
    assert PUBLISHED not in text
    assert "https://raw.githubusercontent.com/someone/a-fork/v0.2.0/assets/icon.png" in text
    assert "https://github.com/someone/a-fork/tree/main/docs" in text


def test_the_publishing_machine_keeps_what_was_written():
    """The registry's action checks the repository out anew; the workflow publishes with the tool itself."""
    workflow = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    assert "uses: Comfy-Org/publish-node-action" not in workflow and registry.CLI in workflow
    assert workflow.index("--repository") < workflow.index("node publish")
