"""`make`: every sound through every method, with the same prompts, seeds and sampler, into a folder."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from ..errors import StudyError
from .graphs import HELD_OUT, PICTURE, files_of, material_graph, picture_graph
from .overview import write_overview
from .plan import FOLDER, PICTURES, Method, Plan, Sound, distinct_slugs
from .record import Material, Picture, Record, file_hash, identity_of, is_picture
from .server import RunError, Server
from .sheet import write_sheets


def make(plan: Plan, server: Server, folder: Path, tell=None) -> Record:
    """Make what is not there yet. A picture that fails is noted and the rest goes on; a server that is gone, or a full
    disk, ends it with `StudyError`, and the same call goes on later. `tell(text)` is told of each picture."""
    tell = tell or (lambda text: print(text, file=sys.stderr, flush=True))
    record = Record(folder, plan)
    record.take_over()
    classes = {node["class_type"] for graph in _all_graphs(plan) for node in graph.values()}
    record.host = server.require(classes)
    names = distinct_slugs([sound.name for sound in plan.sounds]), distinct_slugs([m.name for m in plan.methods])
    record.keep_only_the_plan()
    files = {
        name: server.upload(plan.base / name) for name in dict.fromkeys(n for s in plan.sounds for n in files_of(s))
    }
    for sound in plan.sounds:  # all of them first: between pictures ComfyUI then keeps its models
        _gather_material(record, server, sound, files, names[0][sound.name])
    cells = plan.cells()
    for done, (sound, method, prompt, seed) in enumerate(cells, start=1):
        if method.kind == FOLDER:
            continue
        graph = picture_graph(plan, sound, method.kind, prompt, seed, files)
        place = (sound.name, method.name, prompt, seed)
        if record.is_made(place, identity_of(graph)):
            continue
        stem = f"{names[0][sound.name]}/{names[1][method.name]}__p{prompt + 1}__s{plan.seeds[seed]}"
        picture = _run(record, server, graph, place, stem)
        told = picture.problem or f"{picture.seconds:.1f} s"
        tell(f"[{done}/{len(cells)}] {sound.name}, {method.name}, prompt {prompt + 1}, seed {plan.seeds[seed]}: {told}")
    for method in plan.methods:
        if method.kind == FOLDER:
            _take_folder(record, method, names)
    record.save()
    write_sheets(record)
    write_overview(record)
    return record


def _all_graphs(plan: Plan):
    """A graph of every kind, for the classes that they need."""
    for sound in plan.sounds:
        anything = dict.fromkeys(files_of(sound), "")
        yield material_graph(sound, anything)
        for method in plan.methods:
            if method.kind != FOLDER:
                yield picture_graph(plan, sound, method.kind, 0, 0, anything)


def _gather_material(record: Record, server: Server, sound: Sound, files: dict[str, str], name: str) -> None:
    """The sound as it is heard, and its pictures, once."""
    graph = material_graph(sound, files)
    known = record.material.get(sound.name)
    if known and known.identity == identity_of(graph) and _all_there(record.folder, known):
        return
    try:
        outputs = server.run(graph)
    except RunError as error:
        raise StudyError(
            f"The sound {sound.name!r} or its pictures cannot be read: {error.found}",
            "Every method needs them",
            "Correct the plan or the file",
        ) from None
    (heard,) = _shown(outputs.get("played", {}), "audio") or [None]
    if heard is None:
        raise StudyError(
            f"ComfyUI gave no file of the sound {sound.name!r}", "PreviewAudio gives one", "Update ComfyUI"
        )
    material = Material(f"sounds/{name}{Path(heard['filename']).suffix}", identity=identity_of(graph))
    record.write(material.audio, server.fetch(heard))
    for group, found in (("references", material.references), (HELD_OUT, material.held_out)):
        keys = sorted(
            (k for k in outputs if re.fullmatch(rf"{group}_\d+_shown", k)), key=lambda k: int(k.split("_")[-2])
        )
        for file in (file for key in keys for file in _shown(outputs[key], "images")):
            found.append(f"{group}/{name}_{len(found) + 1}.png")
            record.write(found[-1], server.fetch(file))
    record.material[sound.name] = material
    record.save()


def _all_there(folder: Path, material: Material) -> bool:
    pictures = [*material.references, *material.held_out]
    return (folder / material.audio).is_file() and all(is_picture(folder / name) for name in pictures)


def _shown(outputs: dict, kind: str) -> list[dict]:
    return [file for file in outputs.get(kind, []) if isinstance(file, dict) and "filename" in file]


def _run(record: Record, server: Server, graph: dict, place: tuple, stem: str) -> Picture:
    """Make one picture and record it with its workflow, or why there is none."""
    started, identity = time.monotonic(), identity_of(graph)
    workflow = f"workflows/{stem}.json"
    record.write(workflow, json.dumps(graph, indent=1, ensure_ascii=False).encode())
    try:
        images = _shown(server.run(graph).get(PICTURE, {}), "images")
        problem = "" if images else "ComfyUI gave no picture"
    except RunError as error:
        images, problem = [], error.found
    if problem:
        picture = Picture(*place, workflow=workflow, problem=problem)
        record.add(picture)
        return picture
    file = f"pictures/{stem}.png"
    record.write(file, server.fetch(images[0]))
    seconds = round(time.monotonic() - started, 2)
    made: dict = {"file": file, "workflow": workflow, "identity": identity, "seconds": seconds}
    picture = Picture(*place, sha256=file_hash(record.folder / file), **made)
    record.add(picture)
    return picture


def _take_folder(record: Record, method: Method, names: tuple[dict[str, str], dict[str, str]]) -> None:
    """Copy another system's pictures: those of FOLDER/SOUND, in the order in which people count, one for each prompt and
    seed."""
    plan = record.plan
    if not (plan.base / method.folder).is_dir():
        raise StudyError(
            f"There is no folder {plan.base / method.folder} of the method {method.name!r}",
            "It holds a folder of pictures for each sound",
            "Correct the plan, or put the folder there",
        )
    for sound in plan.sounds:
        found = _pictures_of(plan.base / method.folder, {sound.name, names[0][sound.name]})
        cells = [(prompt, seed) for prompt in range(len(plan.prompts)) for seed in range(len(plan.seeds))]
        for number, (prompt, seed) in enumerate(cells):
            place = (sound.name, method.name, prompt, seed)
            if number >= len(found):
                told = f"{method.folder}/{sound.name} holds {len(found)} pictures, and {len(cells)} are needed"
                record.pictures[place] = Picture(*place, problem=told)
                continue
            source = found[number]
            stem = f"{names[0][sound.name]}/{names[1][method.name]}__p{prompt + 1}__s{plan.seeds[seed]}"
            file = f"pictures/{stem}{source.suffix.lower()}"
            record.write(file, source.read_bytes())
            record.pictures[place] = Picture(*place, file, "", identity_of(str(source)), file_hash(source))


def _pictures_of(folder: Path, names: set[str]) -> list[Path]:
    """The pictures in the folder of a sound, in the order in which people count."""
    inside = [path for path in folder.iterdir() if path.is_dir() and path.name in names]
    pictures = [path for place in inside for path in place.iterdir() if path.suffix.lower() in PICTURES]

    def key(path: Path) -> list:
        return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name.casefold())]

    return sorted((path for path in pictures if is_picture(path)), key=key)
