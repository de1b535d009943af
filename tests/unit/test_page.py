"""The demo's page and the pictures of the documentation, from files as a run leaves them."""

from __future__ import annotations

import wave
from html.parser import HTMLParser

import numpy as np
import pytest
from aai_pack.devtools import page, story, strips, workflows
from aai_pack.devtools.report import DevError
from PIL import Image


def write_sound(path) -> None:
    samples = (np.sin(np.arange(8000) / 5) * np.linspace(0, 20000, 8000)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())


@pytest.fixture
def files(tmp_path):
    write_sound(tmp_path / "sound_a.wav")
    for name, size in (("reference_a.png", (128, 128)), ("aai_small.png", (128, 128)), ("aai_wide.png", (900, 200))):
        Image.new("RGB", size, (90, 120, 200)).save(tmp_path / name)
    for _, start in (*strips.COPIES.values(), *strips.STRIPS.values()):
        Image.new("RGB", (128, 128), (200, 120, 90)).save(tmp_path / f"{start}_1.png")
    return tmp_path


def entry(name: str, outputs: list[str], **more) -> dict:
    shown = {"sounds": ["sound_a.wav"], "references": ["reference_a.png"], "prompts": ["a photo of a <A*>"]}
    shown |= {"losses": [0.5, 0.4, 0.3, 0.35], "learning": ["aai_wide.png"]}
    return {"name": name, "status": "success", "seconds": 1.5, "outputs": outputs, "page": shown, **more}


def entries() -> list[dict]:
    starts: dict[str, list[str]] = {}
    for example, start in (*strips.COPIES.values(), *strips.STRIPS.values()):
        starts.setdefault(example, []).append(f"{start}_1.png")
    return [entry(name, starts.get(name, ["aai_small.png", "aai_wide.png"])) for name in workflows.names()]


class Sources(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name == "src"]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass  # <path/> and the like open nothing

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def test_the_page_shows_every_file_and_is_well_formed(files):
    gallery = [entry(f"{thing} {told}", ["aai_small.png"]) for thing, told in story.GALLERY]
    html = page.render("1.2.3", "a note", entries(), gallery, files)
    parser = Sources()
    parser.feed(html)
    assert not parser.open
    assert all((files / source.removeprefix("files/")).is_file() for source in parser.sources)
    assert html.count("<audio") >= len(gallery) + len(story.CHAPTERS)
    assert all(chapter.title in html for chapter in story.CHAPTERS)
    assert "a photo of a &lt;A*&gt;" in html


def test_chapters_show_examples_that_there_are():
    known = set(workflows.names())
    assert {chapter.example for chapter in story.CHAPTERS} <= known and story.GALLERY_EXAMPLE in known
    assert {example for example, _ in (*strips.COPIES.values(), *strips.STRIPS.values())} <= known


def test_a_failure_is_shown_in_its_place(files):
    failed = entry("07 Sound in a scene", [], error="no <memory> left")
    html = page.render("1", "", [failed], [], files)
    assert "no &lt;memory&gt; left" in html


def test_it_links_to_the_comparison_where_there_is_one(files):
    link = '<a href="comparison/index.html">'
    assert link in page.render("1", "", entries(), [], files, "comparison/index.html")
    assert link not in page.render("1", "", entries(), [], files)


def test_the_pictures_of_the_documentation(files, tmp_path):
    folder = tmp_path / "assets"
    strips.write(entries(), files, folder)
    assert {path.name for path in folder.iterdir()} == {*strips.COPIES, *strips.STRIPS}
    with Image.open(folder / "demo.png") as picture:
        assert picture.height == strips.SIDE + 2 * strips.GAP and picture.width > 4 * strips.SIDE
    nothing = [entry(name, []) for name in workflows.names()]
    with pytest.raises(DevError, match="made nothing for"):
        strips.write(nothing, files, folder)
