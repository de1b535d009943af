"""The subgraphs that the editor offers: served by the host as they lie, and whole. tests/browser opens and runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "subgraphs"
INPUT, OUTPUT = -10, -20  # the editor's ids for a subgraph's own two ends


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
class TestBlueprints:
    def test_the_host_offers_it(self, client, path):
        found = client.get("/global_subgraphs")
        (key,) = [key for key, entry in found.items() if entry["name"] == path.stem]
        served = json.loads(client.get(f"/global_subgraphs/{key}")["data"])
        assert served == json.loads(path.read_text(encoding="utf-8"))

    def test_every_link_joins_what_it_says(self, path):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        (definition,) = workflow["definitions"]["subgraphs"]
        nodes = {node["id"]: node for node in definition["nodes"]}
        for link in definition["links"]:
            origin, target = link["origin_id"], link["target_id"]
            start = definition["inputs"] if origin == INPUT else nodes[origin]["outputs"]
            end = definition["outputs"] if target == OUTPUT else nodes[target]["inputs"]
            assert start[link["origin_slot"]]["type"] == link["type"] == end[link["target_slot"]]["type"]
        (outside,) = workflow["nodes"]
        assert outside["type"] == definition["id"] and definition["name"] == path.stem
        assert {int(node_id) for node_id, _ in outside["properties"]["proxyWidgets"]} <= nodes.keys()
