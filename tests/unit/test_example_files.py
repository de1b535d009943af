"""The files of an example are laid out to be read, say what they are for, and ask for nothing that a fresh install lacks."""

from __future__ import annotations

import io
from itertools import combinations

import pytest
from aai_pack.devtools import editor_copy, example_notes, layout, thumbnails, workflows
from PIL import Image

FILES = {"CheckpointLoaderSimple", "AAI_LoadCAVT", "AAI_LoadAudio", "AAI_LoadAudioToken", "LoadImage"}
WINDOW = (1600, 1000)  # pixels of a common window of the editor
FILLED = 0.75  # the share of it that the editor's "fit view" fills
EVERY = [*workflows.names(), *(f"{workflows.REAL}/{name}" for name in workflows.real_names())]


def boxes(written: dict) -> list[tuple[str, float, float, float, float]]:
    """(title, left, top, right, bottom) of each node, its title bar included."""
    return [
        (n["title"], n["pos"][0], n["pos"][1] - layout.TITLE, n["pos"][0] + n["size"][0], n["pos"][1] + n["size"][1])
        for n in written["nodes"]
    ]


def test_names_sort_as_they_count():
    assert [int(name[:2]) for name in workflows.names()] == list(range(1, 15))
    assert {path.stem for path in workflows.EDITOR_FOLDER.glob("*.json")} == set(workflows.names())
    assert set(workflows.real_names()) <= set(workflows.names())
    assert set(example_notes.NOTES) == set(workflows.names())


@pytest.mark.parametrize("name", workflows.names())
class TestExample:
    def test_it_asks_for_no_file(self, name):
        active = {node["type"] for node in workflows.load_editor(name)["nodes"] if node["mode"] == 0}
        asked = {node["class_type"] for node in workflows.load_api(name).values()}
        assert not FILES & (active | asked)
        assert {"AAI_PocketModels", "AAI_PocketSound"} & asked

    def test_real_models_lie_beside_it_switched_off(self, name):
        beside = [node for node in workflows.load_editor(name)["nodes"] if node["mode"] == editor_copy.OFF]
        assert beside and {node["type"] for node in beside} <= FILES
        assert not any(slot["link"] for node in beside for slot in node["inputs"])

    def test_its_note_says_what_to_do(self, name):
        (note,) = [n for n in workflows.load_editor(name)["nodes"] if n["type"] == "MarkdownNote"]
        (text,) = note["widgets_values"]
        for said in ("Press **Run**", "### Change", "### With ", "### Next", "Shift", "Ctrl+B"):
            assert said in text
        beside = [n["title"] for n in workflows.load_editor(name)["nodes"] if n["mode"] == editor_copy.OFF]
        assert all(f"**{title}**" in text for title in beside), "a node beside the example is not explained"

    def test_it_has_a_square_picture(self, name):
        file = (workflows.EDITOR_FOLDER / f"{name}.jpg").read_bytes()
        picture = Image.open(io.BytesIO(file))
        assert picture.format == "JPEG" and picture.size == (thumbnails.SIDE, thumbnails.SIDE)
        assert len(file) < thumbnails.LIMIT

    def test_its_titles_are_readable_when_all_of_it_is_seen(self, name):
        written = workflows.load_editor(name)
        frames = [g["bounding"] for g in written["groups"]] + [
            [b[1], b[2], b[3] - b[1], b[4] - b[2]] for b in boxes(written)
        ]
        width = max(x + w for x, _, w, _ in frames) - min(x for x, *_ in frames)
        height = max(y + h for _, y, _, h in frames) - min(y for _, y, *_ in frames)
        scale = FILLED * min(WINDOW[0] / width, WINDOW[1] / height)
        assert scale * layout.FONT >= 11, f"{width:.0f} x {height:.0f} pixels are too many for one window"


@pytest.mark.parametrize("name", EVERY)
class TestLayout:
    def test_no_two_nodes_overlap(self, name):
        for (one, *a), (other, *b) in combinations(boxes(workflows.load_editor(name)), 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{one} and {other}"

    def test_every_node_stands_in_the_group_of_its_stage(self, name):
        written = workflows.load_editor(name)
        titles = [group["title"] for group in written["groups"]]
        assert titles and set(titles) <= {
            stage[0] for stage in (layout.ALIGN, layout.ADAPT, layout.INJECT, layout.REAL)
        }
        assert len({group["color"] for group in written["groups"]}) == len(titles)
        for node, (_, left, top, right, bottom) in zip(written["nodes"], boxes(written), strict=True):
            inside = [
                g["title"]
                for g in written["groups"]
                if g["bounding"][0] <= left
                and right <= g["bounding"][0] + g["bounding"][2]
                and g["bounding"][1] <= top
                and bottom <= g["bounding"][1] + g["bounding"][3]
            ]
            assert len(inside) == (node["type"] != "MarkdownNote"), node["title"]
            if node["mode"] == editor_copy.OFF:
                assert inside == [layout.REAL[0]]

    def test_published_files_can_be_downloaded(self, name):
        for node in workflows.load_editor(name)["nodes"]:
            if node["type"] == "CheckpointLoaderSimple":
                (model,) = node["properties"]["models"]
                assert model["name"] in node["widgets_values"] and model["directory"] == "checkpoints"
                assert model["url"].startswith("https://huggingface.co/") and model["name"] in model["url"]


class TestThumbnails:
    def test_two_pictures_become_before_and_after(self):
        picture = thumbnails.square([Image.new("RGB", (128, 128), c) for c in ("red", "blue")], None)
        assert picture.getpixel((10, 100)) == (255, 0, 0) and picture.getpixel((300, 100)) == (0, 0, 255)

    def test_of_many_it_shows_the_first_and_the_last(self):
        colours = ("red", "green", "blue", "black", "yellow")
        picture = thumbnails.square([Image.new("RGB", (64, 64), colour) for colour in colours], None)
        assert picture.getpixel((5, 5)) == (255, 0, 0) and picture.getpixel((315, 315)) == (255, 255, 0)

    def test_a_wide_one_is_shown_whole(self):
        wide = Image.new("RGB", (1000, 200), "blue")
        wide.paste("red", (0, 0, 100, 200))
        picture = thumbnails.square([wide], None)
        assert picture.getpixel((10, 160)) == (255, 0, 0) and picture.getpixel((315, 160)) == (0, 0, 255)

    def test_it_stays_small(self):
        noise = Image.effect_noise((thumbnails.SIDE, thumbnails.SIDE), 60).convert("RGB")
        assert len(thumbnails.small(noise)) < 3 * thumbnails.LIMIT
        assert len(thumbnails.small(Image.linear_gradient("L").convert("RGB"))) < thumbnails.LIMIT
