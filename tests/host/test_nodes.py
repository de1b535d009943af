"""Every node meets the house's rules: tooltips, help page, example in both forms, and a schema that only grows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from aai_pack.devtools import editor_copy, locales, schema, workflows
from aai_pack.devtools.hosts import DEFAULT_VERSION
from aai_pack.tests.host.test_image_embedding_over_http import graph as graph_with_unclip

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted(schema.load_snapshot())


@pytest.fixture(scope="module")
def object_info(client):
    return {name: info for name, info in client.get("/object_info").items()}


def test_the_schema_only_appends(object_info):
    now = schema.describe_pack(object_info)
    assert not schema.broken_by(schema.load_snapshot(), now)
    assert now == schema.load_snapshot(), "something was added: run `python dev.py generate`"


def test_translations_are_of_these_texts(object_info, request):
    if request.config.getoption("--aai-host") != DEFAULT_VERSION:
        pytest.skip("written from the default host")
    told = json.loads(locales.ENGLISH.read_text(encoding="utf-8"))
    assert locales.english(object_info) == told, "a text changed: run `python dev.py generate`"


def test_what_breaks_workflows_is_noticed(object_info):
    before = schema.describe_pack(object_info)

    def broken(change) -> str:
        now = json.loads(json.dumps(before))
        change(now)
        return " ".join(schema.broken_by(before, now))

    train, encode = "AAI_TrainAudioToken", "AAI_CAVTEncode"
    assert "AAI_LoadCAVT is gone" in broken(lambda now: now.pop("AAI_LoadCAVT"))
    assert train in broken(lambda now: now[train]["inputs"][5].__setitem__(0, "step_count"))
    assert train in broken(lambda now: now[train]["inputs"].reverse())
    assert train in broken(lambda now: now[train]["outputs"].pop())
    assert "must be optional" in broken(lambda now: now[train]["inputs"].append(["new", "INT", "required", 1, None]))
    assert encode in broken(lambda now: now[encode]["inputs"][2][4].pop(0))
    assert train in broken(lambda now: now[train]["inputs"][-1].__setitem__(2, "required"))
    assert not broken(lambda now: now[train]["inputs"][0].__setitem__(2, "optional"))
    assert not broken(lambda now: now[encode]["inputs"][2][4].append("another"))
    assert not broken(lambda now: now[train]["inputs"].append(["new", "INT", "optional", 1, None]))
    assert not broken(lambda now: now.update(AAI_New=now[train]))


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
    examples = [*map(workflows.load_api, workflows.names()), *map(workflows.load_real, workflows.real_names())]
    # What needs an unCLIP checkpoint runs on none of the models that come with the pack: its graph is a test's.
    examples.append(graph_with_unclip(SimpleNamespace(sound="", cavt="")))
    assert name in {node["class_type"] for example in examples for node in example.values()}


def test_the_editors_copies_are_up_to_date(object_info, request):
    if request.config.getoption("--aai-host") != DEFAULT_VERSION:
        pytest.skip("generated from the default version, whose stock nodes have more widgets")
    for name, generated in editor_copy.generated(object_info).items():
        written = workflows.load_editor(name)
        assert written == json.loads(json.dumps(generated)), f"{name}: run `python dev.py generate`"


def test_the_api_copies_name_every_widget(object_info):
    """A default that changes later must not change what a shared workflow does."""
    examples = {name: workflows.load_api(name) for name in workflows.names()}
    examples |= {f"real models: {name}": workflows.load_real(name) for name in workflows.real_names()}
    for name, example in examples.items():
        for node in example.values():
            required = object_info[node["class_type"]]["input"].get("required", {})
            assert set(required) <= set(node["inputs"]), f"{name}: {node['class_type']}"


def test_the_editor_gets_the_script_and_the_help(server, client):
    import urllib.request

    extensions = client.get("/extensions")
    (script,) = [path for path in extensions if path.endswith("/js/load_audio.js")]
    folder = script.rsplit("/js/", 1)[0]
    for path in (script, *(f"{folder}/docs/{name}{end}.md" for name in NODES for end in ("/en", ""))):
        with urllib.request.urlopen(server.url + path) as answer:
            assert answer.status == 200
