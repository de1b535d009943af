"""Example workflows: reads the API copies, makes them small for stand-in models, and writes the editor's copies."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EDITOR_FOLDER = ROOT / "example_workflows"
API_FOLDER = EDITOR_FOLDER / "api"
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
COLUMN, ROW, GAP = 380, 60, 40  # pixels of the automatic layout


@dataclass(frozen=True)
class StandIns:
    """Names of the files that stand in for what the examples name."""

    checkpoint: str
    cavt: str
    sound: str
    references: tuple[str, ...]
    pictures: str  # folder in ComfyUI's input folder
    # Settings that make a run of an example short enough for a processor.
    steps: int = 40
    resolution: int = 128
    sampler_steps: int = 8
    vocabulary: int = 1000


def names() -> list[str]:
    """The examples that have an API copy, in the order in which they build on each other."""
    return sorted((path.stem for path in API_FOLDER.glob("*.json")), key=lambda name: int(name.split("_")[0]))


def load_api(name: str) -> dict:
    return json.loads((API_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def shrink(prompt: dict, stand_ins: StandIns) -> dict:
    """The same graph on the stand-in models, with small pictures and few steps."""
    prompt = copy.deepcopy(prompt)
    references = iter(stand_ins.references)
    for node in prompt.values():
        inputs = node["inputs"]
        match node["class_type"]:
            case "CheckpointLoaderSimple":
                inputs["ckpt_name"] = stand_ins.checkpoint
            case "AAI_LoadCAVT":
                inputs["checkpoint"] = stand_ins.cavt
            case "AAI_LoadAudio":
                inputs["audio"] = stand_ins.sound
            case "LoadImage":
                inputs["image"] = next(references)
            case "AAI_TrainAudioToken":
                inputs["steps"], inputs["resolution"] = stand_ins.steps, stand_ins.resolution
            case "AAI_RetrieveImages":
                inputs["folder"] = stand_ins.pictures
            case "AAI_LoudnessSweep":
                inputs["count"] = 3
            case "AAI_WordFromSound":
                inputs["vocabulary"] = stand_ins.vocabulary
            case "EmptyLatentImage":
                inputs["width"] = inputs["height"] = stand_ins.resolution
            case "AAI_BatchStylize":
                inputs["folder"], inputs["longest_side"] = stand_ins.pictures, stand_ins.resolution
                inputs["steps"], inputs["scales"] = 2, "1"
            case "KSampler":
                inputs["steps"] = stand_ins.sampler_steps
    return prompt


def to_editor(prompt: dict, object_info: dict) -> dict:
    """The editor's workflow JSON (version 0.4) of an API prompt, laid out in columns from left to right."""
    order = {node_id: index for index, node_id in enumerate(prompt)}
    links: list[list] = []
    nodes: dict[str, dict] = {}
    for node_id, node in prompt.items():
        info = object_info[node["class_type"]]
        nodes[node_id] = {
            "id": int(node_id),
            "type": node["class_type"],
            "title": node.get("_meta", {}).get("title", info["display_name"]),
            "flags": {},
            "order": order[node_id],
            "mode": 0,
            "inputs": [],
            "outputs": [
                {"name": name, "type": kind, "links": [], "slot_index": slot}
                for slot, (kind, name) in enumerate(zip(info["output"], info["output_name"], strict=True))
            ],
            "properties": {"Node name for S&R": node["class_type"]},
            "widgets_values": [],
        }
    for node_id, node in prompt.items():
        _wire(nodes, links, node_id, node, object_info[node["class_type"]])
    _lay_out(prompt, nodes)
    return {
        "last_node_id": max(n["id"] for n in nodes.values()),
        "last_link_id": len(links),
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _wire(nodes: dict, links: list, node_id: str, node: dict, info: dict) -> None:
    target = nodes[node_id]
    declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    for name, (kind, *rest) in declared.items():
        options = rest[0] if rest else {}
        is_widget = isinstance(kind, list) or kind in WIDGET_TYPES
        value = node["inputs"].get(name)
        if is_widget and not isinstance(value, list):
            target["widgets_values"].append(options.get("default") if value is None else value)
            if options.get("control_after_generate"):
                target["widgets_values"].append("fixed")
            if options.get("image_upload"):
                target["widgets_values"].append("image")
            continue
        slot = {"name": name, "type": kind, "link": None}
        target["inputs"].append(slot)
        if isinstance(value, list):
            source, output = value
            link = len(links) + 1
            slot["link"] = link
            nodes[source]["outputs"][output]["links"].append(link)
            links.append([link, int(source), output, int(node_id), len(target["inputs"]) - 1, kind])


def _columns(prompt: dict) -> dict[str, int]:
    """Node id -> column: one right of the last source; what has no source stands left of its first reader."""
    sources = {n: [v[0] for v in node["inputs"].values() if isinstance(v, list)] for n, node in prompt.items()}
    columns: dict[str, int] = {}

    def column_of(node_id: str) -> int:
        if node_id not in columns:
            columns[node_id] = 1 + max((column_of(source) for source in sources[node_id]), default=-1)
        return columns[node_id]

    for node_id in prompt:
        column_of(node_id)
    for node_id in prompt:
        readers = [columns[reader] for reader in prompt if node_id in sources[reader]]
        if not sources[node_id] and readers:
            columns[node_id] = max(0, min(readers) - 1)
    return columns


def _lay_out(prompt: dict, nodes: dict) -> None:
    columns = _columns(prompt)
    height: dict[int, int] = {}
    for node_id, node in nodes.items():
        column = columns[node_id]
        is_text = node["type"] in ("CLIPTextEncode", "AAI_AudioTokenConditioning")
        is_picture = node["type"] in ("LoadImage", "SaveImage", "PreviewImage", "LossGraphNode")
        lines = len(node["widgets_values"]) + max(len(node["inputs"]), len(node["outputs"]))
        size = 60 + 26 * lines + (80 if is_text else 240 if is_picture else 0)
        node["pos"] = [column * COLUMN, height.get(column, 0)]
        node["size"] = [COLUMN - GAP - 20, size]
        height[column] = height.get(column, 0) + size + ROW


def write_editor_copies(object_info: dict) -> None:
    """Write `example_workflows/NAME.json` for each API copy."""
    for name in names():
        text = json.dumps(to_editor(load_api(name), object_info), indent=1)
        (EDITOR_FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def describe_editor(workflow: dict) -> dict:
    """A workflow of the editor as node id -> (type, links by input name): what must agree with the API copy."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    return {
        str(node["id"]): (
            node["type"],
            {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None},
        )
        for node in workflow["nodes"]
    }


def describe_api(prompt: dict) -> dict:
    """The same description of an API prompt."""
    return {
        node_id: (node["class_type"], {k: v for k, v in node["inputs"].items() if isinstance(v, list)})
        for node_id, node in prompt.items()
    }
