"""Subgraphs that the editor offers ready-made: written from an API prompt with open ends, in the editor's own format."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from .workflows import ROOT, to_editor

FOLDER = ROOT / "subgraphs"
INPUT, OUTPUT = -10, -20  # the editor's ids for a subgraph's own two ends
NAMESPACE = uuid.UUID("6c0a5ad2-3f0e-4f7e-9d53-2b7e2f1b6a10")


@dataclass(frozen=True)
class Blueprint:
    """A subgraph: nodes as an API prompt, which of their inputs come from outside, and what goes out."""

    name: str
    description: str
    prompt: dict
    inputs: dict[str, tuple[str, list[tuple[str, str]]]]  # name -> type, [(node, input)]
    outputs: dict[str, tuple[str, int]]  # name -> (node, output)
    widgets: list[tuple[str, str]]  # (node, widget) that show on the outside


STYLISE = Blueprint(
    name="Stylise a folder with a sound",
    description="A recording becomes a word without training, and every photo of a folder is drawn in its style.",
    prompt={
        "1": {"class_type": "AAI_LoadAudio", "inputs": {"audio": "thunder.wav", "start": 0.0, "duration": 10.24}},
        "2": {"class_type": "AAI_LoadCAVT", "inputs": {"checkpoint": "cavt_mae.safetensors"}},
        "3": {
            "class_type": "AAI_CAVTEncode",
            "inputs": {
                **{"cavt": ["2", 0], "audio": ["1", 0], "short_clip": "tile", "long_clip": "first"},
                "level": "as_recorded",
            },
        },
        "4": {
            "class_type": "AAI_WordFromSound",
            "inputs": {"audio_feature": ["3", 0], "audio_gain": 1.0, "vocabulary": 0},
        },
        "5": {
            "class_type": "AAI_BatchStylize",
            "inputs": {
                **{"audio_token": ["4", 0], "folder": "photos", "output": "stylised", "scales": "1"},
                **{"plan_only": True, "source_prompt": "a photo", "target_prompt": "a photo in the style of <A*>"},
                **{"negative_prompt": "", "method": "virtual", "cross_end": 0.6, "self_end": 0.25, "steps": 25},
                **{"cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.8, "seed": 0},
                **{"longest_side": 768, "saved_words": ""},
            },
        },
    },
    inputs={
        "model": ("MODEL", [("5", "model")]),
        "clip": ("CLIP", [("4", "clip"), ("5", "clip")]),
        "vae": ("VAE", [("5", "vae")]),
    },
    outputs={"sheet": ("5", 0), "report": ("5", 1)},
    widgets=[
        ("1", "audio"),
        ("2", "checkpoint"),
        *(("5", name) for name in ("folder", "output", "scales", "plan_only", "source_prompt", "target_prompt")),
    ],
)
BLUEPRINTS = (STYLISE,)


def to_subgraph(blueprint: Blueprint, object_info: dict) -> dict:
    """The editor's workflow of one node that is the subgraph, with its definition."""
    inner = to_editor(blueprint.prompt, object_info)
    nodes = {str(node["id"]): node for node in inner["nodes"]}
    links = [_link(*link[:5], link[5]) for link in inner["links"]]
    inputs, outputs = [], []
    for number, (name, (kind, targets)) in enumerate(blueprint.inputs.items()):
        ids = []
        for node_id, slot_name in targets:
            slots = nodes[node_id]["inputs"]
            slot = next(index for index, found in enumerate(slots) if found["name"] == slot_name)
            links.append(_link(len(links) + 1, INPUT, number, int(node_id), slot, kind))
            slots[slot]["link"] = links[-1]["id"]
            ids.append(links[-1]["id"])
        inputs.append({"id": _uuid(blueprint, f"in {name}"), "name": name, "type": kind, "linkIds": ids})
    for number, (name, (node_id, output)) in enumerate(blueprint.outputs.items()):
        found = nodes[node_id]["outputs"][output]
        links.append(_link(len(links) + 1, int(node_id), output, OUTPUT, number, found["type"]))
        found["links"].append(links[-1]["id"])
        outputs.append(
            {"id": _uuid(blueprint, f"out {name}"), "name": name, "type": found["type"], "linkIds": [links[-1]["id"]]}
        )
    left, right = (edge(node["pos"][0] + node["size"][0] * side for node in nodes.values()) for edge, side in EDGES)
    definition = {
        **{"id": _uuid(blueprint, "graph"), "version": 1, "revision": 0, "config": {}, "name": blueprint.name},
        "state": {"lastGroupId": 0, "lastNodeId": len(nodes), "lastLinkId": len(links), "lastRerouteId": 0},
        "inputNode": {"id": INPUT, "bounding": [left - 200, 0, 120, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUT, "bounding": [right + 80, 0, 120, 40 + 20 * len(outputs)]},
        **{"inputs": inputs, "outputs": outputs, "widgets": [], "nodes": inner["nodes"], "groups": []},
        **{"links": links, "extra": {}, "description": blueprint.description},
    }
    outside = {
        **{"id": len(nodes) + 1, "type": definition["id"], "title": blueprint.name, "pos": [0, 0], "size": [400, 300]},
        **{"flags": {}, "order": 0, "mode": 0, "widgets_values": []},
        "inputs": [{"name": slot["name"], "type": slot["type"], "link": None} for slot in inputs],
        "outputs": [{"name": slot["name"], "type": slot["type"], "links": []} for slot in outputs],
        "properties": {"proxyWidgets": [list(pair) for pair in blueprint.widgets]},
    }
    return {
        **{
            "revision": 0,
            "last_node_id": outside["id"],
            "last_link_id": 0,
            "nodes": [outside],
            "links": [],
            "version": 0.4,
        },
        **{"definitions": {"subgraphs": [definition]}, "extra": {}},
    }


EDGES = ((min, 0), (max, 1))


def expand(workflow: dict, connected: dict[str, list]) -> dict:
    """What the editor queues for a subgraph whose inputs are `connected`: links of its nodes, without their widgets."""
    (definition,) = workflow["definitions"]["subgraphs"]
    links = {link["id"]: link for link in definition["links"]}
    names = [slot["name"] for slot in definition["inputs"]]
    graph = {}
    for node in definition["nodes"]:
        wired = {}
        for slot in node["inputs"]:
            if slot["link"] is not None:
                link = links[slot["link"]]
                outside = link["origin_id"] == INPUT
                source = (
                    connected[names[link["origin_slot"]]] if outside else [str(link["origin_id"]), link["origin_slot"]]
                )
                wired[slot["name"]] = source
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": wired}
    return graph


def write_all(object_info: dict) -> None:
    """Write `subgraphs/NAME.json` for each blueprint."""
    FOLDER.mkdir(exist_ok=True)
    for blueprint in BLUEPRINTS:
        text = json.dumps(to_subgraph(blueprint, object_info), indent=1)
        path_of(blueprint).write_text(text + "\n", encoding="utf-8")


def path_of(blueprint: Blueprint) -> Path:
    return FOLDER / f"{blueprint.name}.json"


def _link(number, origin, origin_slot, target, target_slot, kind) -> dict:
    return {
        **{"id": number, "origin_id": origin, "origin_slot": origin_slot},
        **{"target_id": target, "target_slot": target_slot, "type": kind},
    }


def _uuid(blueprint: Blueprint, part: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{blueprint.name} {part}"))
