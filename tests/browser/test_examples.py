"""Example workflows as a person has them: opened in the real editor, read back value by value, and run by its button."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from aai_pack.devtools import editor_copy, shipped_pictures, workflows
from aai_pack.tests.shortened import SHORT, shortened

BEFORE = Path(__file__).parent / "before"  # workflows as they were saved with version 0.1.0, and what they queued
PLAYER = "audioUI"  # a widget that older front ends queue as a value, of ComfyUI's own loader of sounds as well
OFFLINE = "Error fetching file size"  # older front ends ask at once how large the models are that a workflow names
# Which wires, and points of wires, run under which nodes: [wire, node], looked for in steps of 18 pixels.
HIDDEN = """() => {
    const context = document.createElement("canvas").getContext("2d"), box = new Float32Array(4), found = [];
    context.lineWidth = 22;
    const paths = [...app.graph.links.values(), ...app.graph.reroutes.values()].map(wire => [wire.id, wire.path]);
    for (const node of app.graph.nodes) {
        node.measure(box);
        const [left, top, width, height] = box;
        for (const [id, path] of paths) {
            let under = !path;
            for (let x = left + 15; !under && x < left + width - 14; x += 18)
                for (let y = top + 15; !under && y < top + height - 14; y += 18) under = context.isPointInStroke(path, x, y);
            if (under) found.push([id, node.title]);
        }
    }
    return found;
}"""
# Nodes that lie over each other: what a run shows on a node makes it larger.
OVER = """() => {
    const boxes = app.graph.nodes.map(node => {
        const box = new Float32Array(4);
        node.measure(box);
        return [node.title, ...box];
    });
    return boxes.flatMap(([one, x, y, w, h], place) => boxes.slice(place + 1)
        .filter(([, a, b, c, d]) => x < a + c && a < x + w && y < b + d && b < y + h)
        .map(([other]) => `${one} and ${other}`));
}"""
SIZES = "() => Object.fromEntries(app.graph.nodes.map(node => [node.id, [...node.size]]))"


@pytest.fixture(scope="module")
def object_info(server):
    with urllib.request.urlopen(f"{server.url}/object_info") as answer:
        return json.load(answer)


@pytest.fixture(autouse=True)
def without_an_error(editor, request):
    """Whatever a test does, the browser's console shows no error; but that the editor asks for each picture and sound that
    a workflow names, and those of `names_missing_files` are not there."""
    editor.errors.clear()
    yield
    expected = [OFFLINE]
    if "names_missing_files" in request.fixturenames:
        expected += ["/view?", "/aai/outline?"]
        editor.clear()
        editor.page.wait_for_timeout(1500)  # its last questions for them are not the next test's
    assert not [error for error in editor.errors if not any(part in error for part in expected)]


@pytest.fixture
def names_missing_files():
    """The test opens a workflow for files of one's own."""


def differences(prompt: dict, expected: dict, object_info: dict) -> list[str]:
    """What an API prompt has otherwise than `expected`; an input that `expected` leaves out must have its default."""
    found = [f"node {key} is missing or too much" for key in prompt.keys() ^ expected.keys()]
    for key in prompt.keys() & expected.keys():
        kind = expected[key]["class_type"]
        if prompt[key]["class_type"] != kind:
            found.append(f"node {key} is a {prompt[key]['class_type']}, not a {kind}")
            continue
        groups = object_info[kind]["input"]
        declared = {**groups.get("required", {}), **groups.get("optional", {})}
        values, wanted = prompt[key]["inputs"], expected[key]["inputs"]
        for name in (values.keys() | wanted.keys()) - {PLAYER}:
            value, want = values.get(name), wanted[name] if name in wanted else editor_copy.default_of(declared[name])
            if value != want or isinstance(value, bool) != isinstance(want, bool):
                found.append(f"{kind} {key}: {name} is {value!r}, not {want!r}")
    return found


def check(editor, workflow: dict, expected: dict, object_info: dict) -> None:
    """The editor knows every node of a workflow, would queue what is expected, and still would after Save and Open."""
    for _ in range(2):
        assert editor.load(workflow) == [], "the editor does not know these nodes"
        prompt, workflow = editor.read()
        assert not differences(prompt, expected, object_info)


@pytest.mark.parametrize("name", workflows.names())
def test_an_example_opens_and_equals_its_api_copy(editor, object_info, name):
    check(editor, workflows.load_editor(name), editor_copy.queued(name, object_info), object_info)


@pytest.mark.usefixtures("names_missing_files")
@pytest.mark.parametrize("name", ("1_sound_to_picture", "7_sound_in_a_scene", "10_stylise_a_folder"))
def test_a_workflow_saved_before_opens_unchanged(editor, object_info, name):
    saved, queued = (
        json.loads((BEFORE / f"{name}{end}").read_text(encoding="utf-8")) for end in (".json", ".api.json")
    )
    check(editor, saved, queued, object_info)


@pytest.mark.usefixtures("names_missing_files")
@pytest.mark.parametrize("editor", ["classic"], indirect=True)
@pytest.mark.parametrize("name", workflows.real_names())
def test_a_copy_with_real_models_opens(editor, object_info, name):
    check(editor, workflows.load_editor(f"{workflows.REAL}/{name}"), workflows.load_real(name), object_info)


@pytest.mark.usefixtures("default_editor")  # whose sizes of nodes and ways of wires the files have
@pytest.mark.parametrize("editor", ["classic"], indirect=True)
@pytest.mark.parametrize("name", workflows.names())
def test_no_wire_is_hidden_and_every_node_keeps_its_size(editor, name):
    written = workflows.load_editor(name)
    editor.load(written)
    editor.page.wait_for_function("[...app.graph.links.values()].every(link => link.path)")
    assert editor.page.evaluate(HIDDEN) == []
    sizes = editor.page.evaluate(SIZES)
    open_nodes = [node for node in written["nodes"] if not node["flags"].get("collapsed")]
    found = {node["id"]: sizes[str(node["id"])] for node in open_nodes}
    assert found == {node["id"]: node["size"] for node in open_nodes}


@pytest.mark.usefixtures("default_editor")  # whose sizes of nodes and ways of wires the files have
@pytest.mark.parametrize("editor", ["classic"], indirect=True)
def test_a_hidden_wire_is_noticed(editor):
    written = workflows.load_editor("06 Word without training")
    del written["extra"]["linkExtensions"], written["extra"]["reroutes"]
    editor.load(written)
    editor.page.wait_for_function("[...app.graph.links.values()].every(link => link.path)")
    assert editor.page.evaluate(HIDDEN)


def test_values_that_shift_are_noticed(editor, object_info):
    """What was wrong with the examples once: a widget with a wire had no value, and all after it took another's."""
    name = "13 From soft to loud"
    written = workflows.load_editor(name)
    (scale,) = (node for node in written["nodes"] if node["type"] == "AAI_LoudnessScale")
    del scale["widgets_values"][1]
    editor.load(written)
    assert len(differences(editor.read()[0], workflows.load_api(name), object_info)) >= 4


@pytest.mark.parametrize("editor", ["classic"], indirect=True)
@pytest.mark.parametrize("name", workflows.names())
def test_an_example_runs(editor, object_info, name):
    """With few steps, but else as it lies: no file was put anywhere."""
    assert editor.load(workflows.load_editor(name)) == []
    editor.fill_in(SHORT)
    assert not differences(editor.read()[0], shortened(editor_copy.queued(name, object_info)), object_info)
    assert editor.press_run() == ("success", "")
    editor.page.wait_for_timeout(1000)
    assert editor.page.evaluate(OVER) == []


@pytest.mark.parametrize("editor", ["nodes_2"], indirect=True)
def test_an_example_runs_as_it_lies(editor):
    editor.load(workflows.load_editor("11 Four pictures at once"))
    assert editor.press_run() == ("success", "")


@pytest.mark.parametrize("editor", ["classic"], indirect=True)
@pytest.mark.parametrize("name", ("07 Sound in a scene", "09 Photo in the style of a sound"))
def test_a_host_without_the_slider_opens_the_example_without_it(editor, object_info, name):
    written = workflows.load_editor(name)
    (slider,) = (node for node in written["nodes"] if node["type"] == "ImageCompare")
    slider["type"] = slider["properties"]["Node name for S&R"] = "NodeOfALaterComfyUI"
    check(editor, written, workflows.load_api(name), object_info)


@pytest.mark.usefixtures("names_missing_files")
class TestBlueprint:
    """A subgraph that the editor offers, connected to the pocket models as a person would."""

    NAME = "Stylise a folder with a sound"
    # What must arrive at its widgets, some by default.
    VALUES = {
        "AAI_LoadAudio": {"audio": "thunder.wav", "start": 0, "duration": 10.24},
        "AAI_CAVTEncode": {"short_clip": "tile", "long_clip": "first", "level": "as_recorded"},
        "AAI_WordFromSound": {"audio_gain": 1, "vocabulary": 0, "bridge": "auto", "nearest_words": 0},
        "AAI_BatchStylize": {
            "folder": "photos",
            "output": "stylised",
            "scales": "1",
            "plan_only": True,
            "target_prompt": "a photo in the style of <A*>",
            "method": "virtual",
            "self_end": 0.25,
            "sampler_name": "euler",
            "denoise": 0.8,
            "longest_side": 768,
        },
    }

    def connected(self) -> dict:
        path = workflows.ROOT / "subgraphs" / f"{self.NAME}.json"
        workflow = json.loads(path.read_text(encoding="utf-8"))
        (outside,) = workflow["nodes"]
        names = ("MODEL", "CLIP", "VAE")
        loader = {
            "id": 100,
            "type": "AAI_PocketModels",
            "pos": [-400, 0],
            "size": [300, 100],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": name, "type": name, "links": [slot + 1]} for slot, name in enumerate(names)],
            "properties": {},
            "widgets_values": ["came with the pack"],
        }
        for slot, socket in enumerate(outside["inputs"]):
            assert socket["type"] == names[slot]
            socket["link"] = slot + 1
        workflow["links"] = [[slot + 1, 100, slot, outside["id"], slot, name] for slot, name in enumerate(names)]
        workflow["nodes"].append(loader)
        return workflow

    def test_its_widgets_arrive(self, editor):
        assert editor.load(self.connected()) == [], "the editor does not know these nodes"
        prompt, _ = editor.read()
        found = {node["class_type"]: node["inputs"] for node in prompt.values()}
        assert found.keys() == {*self.VALUES, "AAI_LoadCAVT", "AAI_PocketModels"}
        for kind, values in self.VALUES.items():
            assert {name: found[kind][name] for name in values} == values

    @pytest.mark.parametrize("editor", ["classic"], indirect=True)
    def test_it_runs_with_the_pocket_encoder(self, editor, workspace, recordings):
        shutil.copy(recordings / "house_lo.wav", workspace.input)
        workflow = self.connected()
        (definition,) = workflow["definitions"]["subgraphs"]
        values = {node["type"]: node["widgets_values"] for node in (*workflow["nodes"], *definition["nodes"])}
        values["AAI_LoadAudio"][0], values["AAI_LoadCAVT"][0] = "house_lo.wav", "came with the pack"
        values["AAI_WordFromSound"][1] = 300  # words of the vocabulary; all of them take a minute
        batch = values["AAI_BatchStylize"]
        batch[0], batch[1], batch[3] = "pocket photos", "by-blueprint", False  # folder, output, plan_only
        batch[10], batch[16] = 2, 128  # steps, longest_side
        editor.load(workflow)
        assert editor.press_run() == ("success", "")
        assert len(list((workspace.output / "by-blueprint").glob("*__sound-1__*.png"))) == shipped_pictures.PHOTOS
