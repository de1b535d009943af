"""The editor's copy of an example, written from its API copy: what Run queues, and beside it a note, the real models that can
take its place (switched off), and a slider that compares two pictures, where the host has one."""

from __future__ import annotations

import copy
import json

from . import example_notes, layout, workflows

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
LOADERS = ("CheckpointLoaderSimple", "AAI_LoadCAVT", "AAI_LoadAudio", "AAI_LoadAudioToken", "LoadImage")
OFF = 4  # the editor's mode "bypass": neither run nor missed
FIRST_BESIDE, FIRST_SLIDER = 101, 121  # numbers of nodes that Run does not queue, and of the slider's
# Nodes that the oldest host does not have; `web/js/optional_nodes.js` leaves them out there.
OPTIONAL = "aai_optional"
EXAMPLE_PICTURE = "example.png"  # lies in every ComfyUI's input folder
# Files with a public address, for the editor's own download. The address is that of ComfyUI's default workflow.
PUBLISHED = {
    "v1-5-pruned-emaonly-fp16.safetensors": (
        "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
        "v1-5-pruned-emaonly-fp16.safetensors?download=true",
        "checkpoints",
    )
}


def to_editor(prompt: dict, object_info: dict, beside: dict | None = None, note: str = "") -> dict:
    """The editor's workflow JSON (version 0.4) of an API prompt.

    `beside`: more nodes in the same form, with `mode` or `optional` where they have one. Each node stands in the column
    right of its sources, in the group of its stage.
    """
    everything = {**prompt, **(beside or {})}
    nodes, links = _nodes(everything, object_info), []
    for key, node in everything.items():
        _wire(nodes, links, key, node, object_info[node["class_type"]])
    placed = {int(key): node for key, node in nodes.items()}
    rows = _rows(everything)
    if note:
        number = max(placed) + 1
        placed[number] = _note(number, note)
        rows[0].insert(0, layout.Group(layout.NOTE, [[number]]))
    sheet = layout.Sheet(placed, links, rows)
    sheet.arrange()
    return {
        "last_node_id": max(placed),
        "last_link_id": len(links),
        "nodes": list(placed.values()),
        "links": links,
        "groups": [_frame(number, group) for number, group in enumerate(_framed(rows), start=1)],
        "config": {},
        "extra": {"reroutes": sheet.reroutes, "linkExtensions": sheet.extensions} if sheet.reroutes else {},
        "version": 0.4,
    }


def _nodes(prompt: dict, object_info: dict) -> dict[str, dict]:
    nodes = {}
    for order, (key, node) in enumerate(prompt.items()):
        info = object_info[node["class_type"]]
        properties = {"Node name for S&R": node["class_type"]}
        named = [value for value in node["inputs"].values() if isinstance(value, str) and value in PUBLISHED]
        if named:
            fields = [dict(zip(("url", "directory"), PUBLISHED[name], strict=True)) for name in named]
            properties["models"] = [{"name": name, **entry} for name, entry in zip(named, fields, strict=True)]
        if node.get("optional"):
            properties[OPTIONAL] = True
        nodes[key] = {
            "id": int(key),
            "type": node["class_type"],
            "title": node.get("_meta", {}).get("title", info["display_name"]),
            "flags": {"collapsed": True} if node["class_type"] in layout.COLLAPSED else {},
            "order": order,
            "mode": node.get("mode", 0),
            "inputs": [],
            "outputs": [
                {"name": name, "type": kind, "links": [], "slot_index": slot}
                for slot, (kind, name) in enumerate(zip(info["output"], info["output_name"], strict=True))
            ],
            "properties": properties,
            "widgets_values": [],
        }
    return nodes


def _wire(nodes: dict, links: list, key: str, node: dict, info: dict) -> None:
    """Fill a node's sockets, widget values, size and incoming links. Every widget has a value, also one that a wire feeds:
    the editor reads values by their position. Sockets come first, then widgets with a wire, as the editor has them."""
    target = nodes[key]
    declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    widgets = {name: entry for name, entry in declared.items() if _is_widget(entry)}
    for name, entry in widgets.items():
        target["widgets_values"] += _widget_values(entry, node["inputs"].get(name))
    wired = [name for name in widgets if isinstance(node["inputs"].get(name), list)]
    for name in [*(name for name, entry in declared.items() if name not in widgets and _is_socket(entry)), *wired]:
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
            links.append([link, int(source), output, int(key), len(target["inputs"]) - 1, slot["type"]])
    shown = list(widgets.values())  # also the advanced ones, which only Nodes 2.0 folds away
    rows = sum(len(_widget_values(entry, None)) for entry in shown)
    target["size"] = layout.size_of(target, rows, sum(bool(_options(entry).get("multiline")) for entry in shown))


def _options(entry: list) -> dict:
    return entry[1] if len(entry) > 1 else {}


def _is_widget(entry: list) -> bool:
    """Whether the editor draws a declared input as a widget and not as a socket alone."""
    return (isinstance(entry[0], list) or entry[0] in WIDGET_TYPES) and not _options(entry).get("forceInput")


def _is_socket(entry: list) -> bool:
    """Whether it has a socket at all: the slider's own view has none."""
    return entry[0] != "IMAGECOMPARE"


def default_of(entry: list):
    """The value with which the editor begins a declared input: its default, else its first choice, else None."""
    kind, options = entry[0], _options(entry)
    choices = kind if isinstance(kind, list) else options.get("options")
    return options.get("default", choices[0] if choices else None)


def _widget_values(entry: list, value) -> list:
    """What the editor stores for one widget: its value, or its default where it has none or a wire; and what the editor
    itself adds behind it."""
    options = _options(entry)
    value = default_of(entry) if value is None or isinstance(value, list) else value
    added = ["fixed"] if options.get("control_after_generate") else []
    return [value, *added, *(["image"] if options.get("image_upload") else [])]


def _rows(prompt: dict) -> list[list[layout.Group]]:
    """Align and Adapt above, Inject below; the real models at the end of the shorter row."""
    active = {key: node for key, node in prompt.items() if node.get("mode") != OFF}
    stages = {key: layout.stage_of(active, key) for key in active}
    groups = {}
    for stage in (layout.ALIGN, layout.ADAPT, layout.INJECT):
        keys = [key for key in active if stages[key] == stage]
        if keys:
            groups[stage] = layout.Group(stage, layout.columns_of(active, keys))
    rows = [[groups[s] for s in (layout.ALIGN, layout.ADAPT) if s in groups]]
    rows += [[groups[layout.INJECT]]] if layout.INJECT in groups else []
    off = [int(key) for key, node in prompt.items() if node.get("mode") == OFF]
    if off:
        half = off if len(off) < 3 else off[: -(-len(off) // 2)]
        columns = [half, off[len(half) :]] if len(off) > len(half) else [half]
        lengths = [sum(len(group.columns) for group in row) + (number == 0) for number, row in enumerate(rows)]
        rows[lengths.index(min(lengths))].append(layout.Group(layout.REAL, columns))
    return rows


def _note(number: int, text: str) -> dict:
    """A note of the editor's own; it is part of no run."""
    lines = sum(1 + len(line) // 74 for line in text.splitlines())
    return {
        "id": number,
        "type": "MarkdownNote",
        "title": "Read me first",
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
        "size": [layout.WIDTHS["MarkdownNote"], 30 + 17 * lines],
        "color": "#432",
        "bgcolor": "#000",
    }


def _framed(rows: list[list[layout.Group]]) -> list[layout.Group]:
    return [group for row in rows for group in row if group.title != layout.NOTE]


def _frame(number: int, group: layout.Group) -> dict:
    title, colour = group.title
    return {
        "id": number,
        "title": title,
        "bounding": [round(value, 1) for value in group.bounding],
        "color": colour,
        "font_size": layout.FONT,
        "flags": {},
    }


def beside(name: str, object_info: dict) -> dict:
    """Nodes of an example's copy that its API copy does not have: the loaders of its real twin, and the slider."""
    real = (
        workflows.load_real(name) if name in workflows.real_names() else workflows.load_real("06 Word without training")
    )
    loaders, kinds = {}, set()
    for node in real.values():
        kind = node["class_type"]
        if kind in LOADERS and kind not in kinds:
            kinds.add(kind)
            node = copy.deepcopy(node) | {"mode": OFF}
            node["inputs"] = {k: v for k, v in node["inputs"].items() if not isinstance(v, list)}
            if kind == "LoadImage":
                node["inputs"]["image"] = EXAMPLE_PICTURE
            elif kind == "AAI_LoadAudio":
                node["inputs"]["audio"] = ""
            loaders[str(FIRST_BESIDE + len(loaders))] = node
    return loaders | _slider(workflows.load_api(name), object_info)


def _slider(prompt: dict, object_info: dict) -> dict:
    """The host's own comparison of the two pictures of an edit; nothing where there is no edit, or the host has none."""
    sheets = [node["inputs"]["image"] for node in prompt.values() if node["class_type"] == "AAI_EditSheet"]
    if not sheets or "ImageCompare" not in object_info:
        return {}
    before, after, compare = (str(FIRST_SLIDER + number) for number in range(3))
    return {
        before: _optional("ImageFromBatch", "Before", image=sheets[0], batch_index=0, length=1),
        after: _optional("ImageFromBatch", "After", image=sheets[0], batch_index=1, length=1),
        # What the editor's slider sends along, until it has pictures.
        compare: _optional(
            "ImageCompare",
            "Before and after",
            image_a=[before, 0],
            image_b=[after, 0],
            compare_view={"__value__": ["", ""]},
        ),
    }


def _optional(kind: str, title: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}, "optional": True}


def queued(name: str, object_info: dict) -> dict:
    """What Run queues of an example's copy on the host with these nodes: its API copy, and the slider where there is one."""
    return workflows.load_api(name) | _slider(workflows.load_api(name), object_info)


def generated(object_info: dict) -> dict[str, dict]:
    """Every example's copy, by its name below `example_workflows`."""
    copies = {}
    for name in workflows.names():
        note = example_notes.note(name, name in workflows.real_names())
        copies[name] = to_editor(workflows.load_api(name), object_info, beside(name, object_info), note)
    for name in workflows.real_names():
        note = example_notes.real_note(name)
        copies[f"{workflows.REAL}/{name}"] = to_editor(workflows.load_real(name), object_info, None, note)
    return copies


def write(object_info: dict) -> None:
    """Write `example_workflows/NAME.json` for each API copy."""
    for name, workflow in generated(object_info).items():
        path = workflows.EDITOR_FOLDER / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
