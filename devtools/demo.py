"""The demo: runs every example workflow in a real ComfyUI over its HTTP API and writes a page with the results."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from . import comparison, on_pocket, page, story, strips, thumbnails, workflows
from .client import Client, Run
from .hosts import ensure_host, ensure_recordings
from .report import DevError, say, step
from .server import Server, Workspace
from .stand_in import install

NOTES = {
    "stand-ins": "The models of this demo are stand-ins with random weights: everything runs as it will with real models, "
    "but the pictures carry no meaning yet.",
    "pocket": "The models of this demo are the pack's pocket models, which know a small drawn world: what is heard is what "
    "is drawn. With your own checkpoint the same graphs paint like that checkpoint.",
}


def save_outputs(client: Client, run: Run, prompt: dict, folder: Path) -> list[str]:
    """Copy the pictures and sounds that a run put out into `folder`; returns their names.

    What the pack's nodes show on themselves is left out: the graph's own preview and save nodes say what counts.
    """
    names = []
    for node, shown in run.outputs.items():
        if prompt.get(node, {}).get("class_type", "").startswith("AAI_"):
            continue
        for file in [*shown.get("images", []), *shown.get("audio", [])]:
            if isinstance(file, dict) and file["type"] in ("output", "temp"):
                target = folder / file["filename"]
                target.write_bytes(client.fetch(file))
                names.append(target.name)
    return names


def prepared(name: str, stand_ins, models: str) -> dict:
    """An example's graph on the models of this demo."""
    if models == "stand-ins":
        return workflows.shrink(workflows.load_real(name), stand_ins)
    return on_pocket.shown(workflows.load_api(name), on_pocket.LEARNS if name == story.LEARNED_EXAMPLE else 0)


def run_example(client: Client, name: str, prompt: dict, folder: Path) -> dict:
    """Run one example -> its entry of the report, with what the page draws under `page`."""
    with step(f"running {name}"):
        run = client.run(prompt, timeout=600)
    losses = [loss for shown in run.outputs.values() for series in shown.get("aai_losses", []) for loss in series]
    inputs = [node["inputs"] for node in prompt.values()]
    outputs = save_outputs(client, run, prompt, folder)
    heard, seen, learning, compared = (
        [file for file in outputs if file.startswith(start)]
        for start in (on_pocket.SOUND, on_pocket.REFERENCE, on_pocket.LEARNING, on_pocket.COMPARED)
    )
    return {
        "name": name,
        "status": run.status,
        "seconds": round(run.seconds, 2),
        "outputs": [file for file in outputs if file not in {*heard, *seen, *learning, *compared}],
        **({"error": run.message} if run.status != "success" else {}),
        "page": {
            "sounds": [i["audio"] for i in inputs if isinstance(i.get("audio"), str)] + heard,
            "references": [i["image"] for i in inputs if isinstance(i.get("image"), str)] + seen,
            "prompts": [i["text"] for i in inputs if isinstance(i.get("text"), str)],
            "losses": losses,
            "learning": learning,
            "compared": compared,
        },
    }


def _without_page(entry: dict) -> dict:
    return {key: value for key, value in entry.items() if key != "page"}


def run_gallery(client: Client, folder: Path) -> list[dict]:
    """One example with the sounds of several things."""
    prompt = workflows.load_api(story.GALLERY_EXAMPLE)
    return [
        run_example(client, f"{thing} {told}", on_pocket.in_a_place(thing, told, prompt), folder)
        for thing, told in story.GALLERY
    ]


def run_demo(
    version: str,
    out: Path,
    sounds: Path | None,
    models: str,
    pictures: Path | None = None,
    with_thumbnails: bool = False,
) -> int:
    """Build the host, run the examples, write report.json and index.html; 0 only if every example succeeded."""
    host = ensure_host(version)
    started = time.monotonic()
    files = out / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True, exist_ok=True)
    with Workspace() as workspace:
        # The pocket models need nothing: the examples run there as they do for whoever has just installed the pack.
        stand_ins = install(workspace, sounds or ensure_recordings()) if models == "stand-ins" else None
        names = workflows.names() if models == "pocket" else workflows.real_names()
        with Server(host, workspace) as server:
            client = Client(server.url)
            entries = [run_example(client, name, prepared(name, stand_ins, models), files) for name in names]
            gallery = run_gallery(client, files) if models == "pocket" else []
            compared = comparison.compare(server.url, out) if models == "pocket" else {}
            if any(entry["status"] != "success" for entry in entries + gallery):
                say(f"the end of ComfyUI's log:\n{server.tail()}")
        for entry in entries:
            for name in [*entry["page"]["sounds"], *entry["page"]["references"]]:
                if (workspace.input / name).is_file():
                    shutil.copy(workspace.input / name, files / name)
    rendered = page.render(version, NOTES[models], entries, gallery, files, compared.get("page", ""))
    (out / "index.html").write_text(rendered, encoding="utf-8")
    if pictures is not None:
        strips.write(entries, files, pictures)
    if with_thumbnails:
        thumbnails.write(entries, files)
    report = {
        "host_version": version,
        "note": NOTES[models],
        "seconds": round(time.monotonic() - started, 1),
        "workflows": [_without_page(entry) for entry in entries],
        "gallery": [_without_page(entry) for entry in gallery],
        **({"comparison": compared} if compared else {}),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = [entry["name"] for entry in entries + gallery if entry["status"] != "success"]
    failed += ["the comparison"] if compared.get("status") == "error" else []
    worked = sum(entry["status"] == "success" for entry in entries)
    say(f"{worked} of {len(entries)} workflows succeeded; open {out / 'index.html'}")
    if compared.get("page"):
        say(f"the methods side by side, with their figures: {out / compared['page']}")
    return 1 if failed or not entries else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sounds", type=Path)
    parser.add_argument("--models", choices=tuple(NOTES), default="pocket")
    parser.add_argument("--pictures", type=Path, help="also write the pictures of README and docs into this folder")
    parser.add_argument("--thumbnails", action="store_true", help="also write the pictures of the template dialog")
    options = parser.parse_args()
    try:
        if options.sounds and not options.sounds.is_dir():
            raise DevError(f"{options.sounds} is no folder. Name a folder with recordings.")
        if options.sounds and options.models == "pocket":
            raise DevError("The pocket's examples make their own sounds. To hear yours, add --models stand-ins.")
        if (options.pictures or options.thumbnails) and options.models != "pocket":
            raise DevError(
                "The documentation shows the pocket models. Leave --models out, or --pictures and --thumbnails."
            )
        return run_demo(options.host, options.out, options.sounds, options.models, options.pictures, options.thumbnails)
    except DevError as error:
        print(f"dev.py demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
