"""The subgraphs that the editor offers: served by the host, up to date, and running."""

from __future__ import annotations

import copy
import json

import pytest
from aai_pack.devtools import blueprints, workflows
from aai_pack.devtools.hosts import DEFAULT_VERSION


@pytest.fixture(scope="module")
def object_info(client):
    return client.get("/object_info")


@pytest.mark.parametrize("blueprint", blueprints.BLUEPRINTS, ids=lambda b: b.name)
class TestBlueprints:
    def test_the_host_offers_it(self, client, blueprint):
        found = client.get("/global_subgraphs")
        (key,) = [key for key, entry in found.items() if entry["name"] == blueprint.name]
        served = json.loads(client.get(f"/global_subgraphs/{key}")["data"])
        assert served == json.loads(blueprints.path_of(blueprint).read_text(encoding="utf-8"))

    def test_it_is_up_to_date(self, object_info, blueprint, request):
        if request.config.getoption("--aai-host") != DEFAULT_VERSION:
            pytest.skip("generated from the default version")
        written = json.loads(blueprints.path_of(blueprint).read_text(encoding="utf-8"))
        generated = json.loads(json.dumps(blueprints.to_subgraph(blueprint, object_info)))
        assert written == generated, "run `python dev.py generate`"

    def test_every_link_joins_what_it_says(self, blueprint):
        workflow = json.loads(blueprints.path_of(blueprint).read_text(encoding="utf-8"))
        (definition,) = workflow["definitions"]["subgraphs"]
        nodes = {node["id"]: node for node in definition["nodes"]}
        for link in definition["links"]:
            origin, target = link["origin_id"], link["target_id"]
            start = definition["inputs"] if origin == blueprints.INPUT else nodes[origin]["outputs"]
            end = definition["outputs"] if target == blueprints.OUTPUT else nodes[target]["inputs"]
            assert start[link["origin_slot"]]["type"] == link["type"] == end[link["target_slot"]]["type"]
        assert workflow["nodes"][0]["type"] == definition["id"]
        for node_id, widget in workflow["nodes"][0]["properties"]["proxyWidgets"]:
            assert widget in blueprint.prompt[node_id]["inputs"]

    def test_it_runs(self, client, stand_ins, blueprint):
        workflow = json.loads(blueprints.path_of(blueprint).read_text(encoding="utf-8"))
        graph = blueprints.expand(workflow, {"model": ["100", 0], "clip": ["100", 1], "vae": ["100", 2]})
        for node_id, node in copy.deepcopy(blueprint.prompt).items():
            widgets = {k: v for k, v in node["inputs"].items() if not isinstance(v, list)}
            assert graph[node_id]["inputs"] | widgets | node["inputs"] == graph[node_id]["inputs"] | widgets
            graph[node_id]["inputs"] |= widgets
        graph["100"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ""}}
        run = client.run(workflows.shrink(graph, stand_ins))
        assert run.status == "success", run.message
        assert "finished" in run.outputs["5"]["text"][0]
