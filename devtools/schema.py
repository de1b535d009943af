"""What saved workflows stand on, read from a running server's node list: ids, inputs, order, types, defaults, outputs."""

from __future__ import annotations

import json
from pathlib import Path

from .report import DevError

SNAPSHOT = Path(__file__).resolve().parent.parent / "tests" / "host" / "schema_snapshot.json"
FILE_LISTS = ("audio", "checkpoint", "name", "weights")  # where they are choices, those are what lies in a folder
HOST_LISTS = ("sampler_name", "scheduler")  # their choices are those of the host's version


def describe(info: dict) -> dict:
    """One entry of `/object_info`, without what may change freely (names for people, tooltips, ranges)."""
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, *rest) in info["input"].get(group, {}).items():
            options = rest[0] if rest else {}
            choices = kind if isinstance(kind, list) else options.get("options")
            kind = "COMBO" if isinstance(kind, list) else kind
            if kind == "COMBO" and name in FILE_LISTS:
                inputs.append([name, kind, group, None, None])
            else:
                inputs.append([name, kind, group, options.get("default"), None if name in HOST_LISTS else choices])
    outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
    return {"inputs": inputs, "outputs": outputs, "category": info["category"]}


def describe_pack(object_info: dict) -> dict:
    """Every node of the pack."""
    return {name: describe(info) for name, info in sorted(object_info.items()) if name.startswith("AAI_")}


def load_snapshot() -> dict:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.exists() else {}


def broken_by(before: dict, now: dict) -> list[str]:
    """What a change takes away from saved workflows: empty if it only appends nodes, optional inputs, choices, outputs."""
    broken = [f"{name} is gone" for name in before if name not in now]
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        kept = new["inputs"][: len(old["inputs"])]
        if len(kept) < len(old["inputs"]) or not all(map(_is_same_input, old["inputs"], kept)):
            broken.append(f"inputs of {name} changed: {old['inputs']} became {new['inputs']}")
        broken += [
            f"{name} got the input {i[0]}, which must be optional"
            for i in new["inputs"][len(kept) :]
            if i[2] != "optional"
        ]
        if new["outputs"][: len(old["outputs"])] != old["outputs"]:
            broken.append(f"outputs of {name} changed: {old['outputs']} became {new['outputs']}")
    return broken


def _is_same_input(old: list, new: list) -> bool:
    choices_before, choices = old[4], new[4]
    if isinstance(choices_before, list) and isinstance(choices, list):
        choices = choices[: len(choices_before)]
    need = new[2] if (old[2], new[2]) == ("required", "optional") else old[2]  # what asks for less breaks nothing
    return [*old[:2], need, old[3], choices_before] == [*new[:4], choices]


def write_snapshot(object_info: dict) -> None:
    """Append what is new to the snapshot. Raises `DevError` if anything released would change."""
    now = describe_pack(object_info)
    if broken := broken_by(load_snapshot(), now):
        raise DevError(
            "Saved workflows would break: " + "; ".join(broken) + ". Inputs and outputs may only be appended."
        )
    SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
