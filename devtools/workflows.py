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
    """Fill a node's sockets, widget values and incoming links. Every widget has a value, also one that a wire feeds:
    the editor reads values by their position. Sockets come first, then widgets with a wire, as the editor has them."""
    target = nodes[node_id]
    declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    widgets = {name: entry for name, entry in declared.items() if _is_widget(entry)}
    for name, entry in widgets.items():
        value = node["inputs"].get(name)
        target["widgets_values"] += _widget_values(entry, value)
    wired = [name for name in widgets if isinstance(node["inputs"].get(name), list)]
    for name in [*(name for name in declared if name not in widgets), *wired]:
        kind, value = declared[name][0], node["inputs"].get(name)
        slot = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": None}
        if name in widgets:
            slot["widget"] = {"name": name}
        target["inputs"].append(slot)
        if isinstance(value, list):
            source, output = value
            link = len(links) + 1
            slot["link"] = link
            nodes[source]["outputs"][output]["links"].append(link)
            links.append([link, int(source), output, int(node_id), len(target["inputs"]) - 1, slot["type"]])


def _is_widget(entry: list) -> bool:
    """Whether the editor draws a declared input as a widget and not as a socket alone."""
    kind, options = entry[0], entry[1] if len(entry) > 1 else {}
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")


def default_of(entry: list):
    """The value with which the editor begins a declared input: its default, else its first choice, else None."""
    kind, options = entry[0], entry[1] if len(entry) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options")
    return options.get("default", choices[0] if choices else None)


def _widget_values(entry: list, value) -> list:
    """What the editor stores for one widget: its value, or its default where it has none or a wire; and what the editor
    itself adds behind it."""
    options = entry[1] if len(entry) > 1 else {}
    value = default_of(entry) if value is None or isinstance(value, list) else value
    added = ["fixed"] if options.get("control_after_generate") else []
    return [value, *added, *(["image"] if options.get("image_upload") else [])]


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
