"""Every node meets the house's rules: tooltips, help page, example in both forms, and a schema that only grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aai_pack.devtools import workflows

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("schema_snapshot.json")
NODES = sorted(json.loads(SNAPSHOT.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def object_info(client):
    return {name: info for name, info in client.get("/object_info").items()}


def describe(info: dict) -> dict:
    """What saved workflows stand on: ids, input names, order, types, defaults, outputs."""
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, *rest) in info["input"].get(group, {}).items():
            options = rest[0] if rest else {}
            kind = "COMBO" if isinstance(kind, list) else kind
            choices = options.get("options") if name not in ("audio", "checkpoint") else None
            inputs.append([name, kind, group, options.get("default"), choices])
    outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
    return {"inputs": inputs, "outputs": outputs, "category": info["category"]}


def test_the_schema_only_appends(object_info):
    saved = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    now = {name: describe(info) for name, info in object_info.items() if name.startswith("AAI_")}
    assert sorted(now) == sorted(saved), "a node came or went: add it to schema_snapshot.json, never remove one"
    for name, before in saved.items():
        for part in ("inputs", "outputs"):
            kept = now[name][part][: len(before[part])]
            assert kept == before[part], f"{name}: its {part} changed; saved workflows would break"
            assert now[name][part] == before[part], f"{name}: {part} were added; add them to schema_snapshot.json as well"


@pytest.mark.parametrize("name", NODES)
def test_words_for_people(object_info, name):
    info = object_info[name]
    assert info["description"] and info["display_name"] != name and info["category"].startswith("AAI/")
    for group in ("required", "optional"):
        for widget, (_, *rest) in info["input"].get(group, {}).items():
            assert rest and rest[0].get("tooltip"), f"{name}.{widget} has no tooltip"
    assert all(info["output_tooltips"]), f"{name}: an output has no tooltip"


@pytest.mark.parametrize("name", NODES)
def test_help_page_names_every_input_and_output(server, client, object_info, name):
    text = (ROOT / "web" / "docs" / name / "en.md").read_text(encoding="utf-8")
    for group in ("required", "optional"):
        for widget in object_info[name]["input"].get(group, {}):
            assert f"`{widget}`" in text, f"the help page of {name} does not explain {widget}"
    for output in object_info[name]["output_name"]:
        assert f"`{output}`" in text, f"the help page of {name} does not explain {output}"


@pytest.mark.parametrize("name", NODES)
def test_every_node_stands_in_an_example(name):
    used = {node["class_type"] for example in workflows.names() for node in workflows.load_api(example).values()}
    assert name in used


@pytest.mark.parametrize("name", workflows.names())
def test_the_editors_copy_is_the_same_graph(object_info, name):
    editor = json.loads((workflows.EDITOR_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert workflows.describe_editor(editor) == workflows.describe_api(workflows.load_api(name))
    assert editor == json.loads(json.dumps(workflows.to_editor(workflows.load_api(name), object_info)))


@pytest.mark.parametrize("name", workflows.names())
def test_the_api_copy_names_every_widget(object_info, name):
    """A default that changes later must not change what a shared workflow does."""
    for node in workflows.load_api(name).values():
        required = object_info[node["class_type"]]["input"].get("required", {})
        assert set(required) <= set(node["inputs"]), node["class_type"]


def test_the_editor_gets_the_script_and_the_help(server, client):
    import urllib.request

    extensions = client.get("/extensions")
    (script,) = [path for path in extensions if path.endswith("/js/load_audio.js")]
    folder = script.rsplit("/js/", 1)[0]
    for path in (script, *(f"{folder}/docs/{name}/en.md" for name in NODES)):
        with urllib.request.urlopen(server.url + path) as answer:
            assert answer.status == 200
