"""Example workflows as a person has them: opened in the real editor, read back value by value, and run by its button."""

from __future__ import annotations

import json
import urllib.request

import pytest
from aai_pack.devtools import on_pocket, workflows

# Those whose widgets are fed by wires; they run on the pocket models, and shortly.
WIRED = ("7_sound_in_a_scene", "8_breathing_with_the_sound", "13_from_soft_to_loud")
SHORT = {
    "AAI_TrainAudioToken": {"steps": 2, "batch_size": 1},
    "AAI_LoudnessCurve": {"frames": 2},
    "AAI_LoudnessSweep": {"count": 2},
    "KSampler": {"steps": 2},
}


@pytest.fixture(scope="module")
def object_info(server):
    with urllib.request.urlopen(f"{server.url}/object_info") as answer:
        return json.load(answer)


@pytest.fixture(autouse=True)
def without_an_error(editor):
    """Whatever a test does, the browser's console shows no error."""
    editor.errors.clear()
    yield
    assert not editor.errors


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
        for name in values.keys() | wanted.keys():
            value, want = values.get(name), wanted[name] if name in wanted else workflows.default_of(declared[name])
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
    written = json.loads((workflows.EDITOR_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    check(editor, written, workflows.load_api(name), object_info)


def test_values_that_shift_are_noticed(editor, object_info):
    """What was wrong with the examples once: a widget with a wire had no value, and all after it took another's."""
    name = "13_from_soft_to_loud"
    written = json.loads((workflows.EDITOR_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    (scale,) = (node for node in written["nodes"] if node["type"] == "AAI_LoudnessScale")
    del scale["widgets_values"][1]
    editor.load(written)
    assert len(differences(editor.read()[0], workflows.load_api(name), object_info)) >= 4


def test_the_pocket_example_runs_as_it_lies(editor):
    name = "11_pocket_sound_to_picture"
    editor.load(json.loads((workflows.EDITOR_FOLDER / f"{name}.json").read_text(encoding="utf-8")))
    assert editor.press_run() == ("success", "")


@pytest.mark.parametrize("editor", ["classic"], indirect=True)
@pytest.mark.parametrize("name", WIRED)
def test_an_example_with_wired_widgets_runs(editor, object_info, name):
    prompt = on_pocket.on_pocket(workflows.load_api(name))
    prompt = {key: node for key, node in prompt.items() if key.isdigit()}  # without those that serve the demo's page
    for node in prompt.values():
        node["inputs"].update(SHORT.get(node["class_type"], {}))
    check(editor, workflows.to_editor(prompt, object_info), prompt, object_info)
    assert editor.press_run() == ("success", "")


class TestBlueprint:
    """A subgraph that the editor offers, connected to a checkpoint as a person would."""

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
            "type": "CheckpointLoaderSimple",
            "pos": [-400, 0],
            "size": [300, 100],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": name, "type": name, "links": [slot + 1]} for slot, name in enumerate(names)],
            "properties": {},
            "widgets_values": ["v1-5-pruned-emaonly-fp16.safetensors"],
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
        assert found.keys() == {*self.VALUES, "AAI_LoadCAVT", "CheckpointLoaderSimple"}
        for kind, values in self.VALUES.items():
            assert {name: found[kind][name] for name in values} == values

    @pytest.mark.parametrize("editor", ["classic"], indirect=True)
    def test_it_runs(self, editor):
        workflow = self.connected()
        (definition,) = workflow["definitions"]["subgraphs"]
        values = {node["type"]: node["widgets_values"] for node in (*workflow["nodes"], *definition["nodes"])}
        values["CheckpointLoaderSimple"][0], values["AAI_LoadCAVT"][0] = (
            "stand_in_sd15.ckpt",
            "stand_in_cavt.safetensors",
        )
        values["AAI_WordFromSound"][1] = 1000  # words of the vocabulary; all of them take a minute
        editor.load(workflow)
        assert editor.press_run() == ("success", "")
