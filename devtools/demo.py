"""The demo: runs every example workflow in a real ComfyUI over its HTTP API and writes a page with the results."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from . import on_pocket, page, workflows
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


def save_outputs(client: Client, run: Run, folder: Path) -> list[str]:
    """Copy the pictures and sounds that a run put out into `folder`; returns their names."""
    names = []
    for shown in run.outputs.values():
        for file in [*shown.get("images", []), *shown.get("audio", [])]:
            if isinstance(file, dict) and file["type"] in ("output", "temp"):
                target = folder / file["filename"]
                target.write_bytes(client.fetch(file))
                names.append(target.name)
    return names


def prepared(name: str, stand_ins, models: str) -> dict:
    """An example's graph on the models of this demo."""
    prompt = workflows.shrink(workflows.load_api(name), stand_ins)
    return on_pocket.on_pocket(name, prompt) if models == "pocket" else prompt


def run_example(client: Client, name: str, prompt: dict, folder: Path) -> dict:
    """Run one example -> its entry of the report, with what the page draws under `page`."""
    with step(f"running {name}"):
        run = client.run(prompt, timeout=600)
    losses = [loss for shown in run.outputs.values() for series in shown.get("aai_losses", []) for loss in series]
    inputs = [node["inputs"] for node in prompt.values()]
    outputs = save_outputs(client, run, folder)
    heard = [file for file in outputs if file.startswith(on_pocket.SOUND)]
    seen = [file for file in outputs if file.startswith(on_pocket.REFERENCE)]
    return {
        "name": name,
        "status": run.status,
        "seconds": round(run.seconds, 2),
        "outputs": [file for file in outputs if file not in {*heard, *seen}],
        **({"error": run.message} if run.status != "success" else {}),
        "page": {
            "sounds": [i["audio"] for i in inputs if isinstance(i.get("audio"), str)] + heard,
            "references": [i["image"] for i in inputs if isinstance(i.get("image"), str)] + seen,
            "prompts": [i["text"] for i in inputs if isinstance(i.get("text"), str)],
            "losses": losses,
        },
    }


def run_examples(version: str, files: Path, sounds: Path | None, models: str) -> list[dict]:
    """Build the host and run every example -> their entries; pictures and sounds lie in `files` then."""
    host = ensure_host(version)
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True, exist_ok=True)
    with Workspace() as workspace:
        stand_ins = install(workspace, sounds or ensure_recordings())
        with Server(host, workspace) as server:
            client = Client(server.url)
            if models == "pocket":
                on_pocket.write_pictures(client, workspace.input / stand_ins.pictures)
            entries = [
                run_example(client, name, prepared(name, stand_ins, models), files) for name in workflows.names()
            ]
            if any(entry["status"] != "success" for entry in entries):
                say(f"the end of ComfyUI's log:\n{server.tail()}")
        for entry in entries:
            for name in entry["page"]["sounds"] + entry["page"]["references"]:
                if (workspace.input / name).is_file():
                    shutil.copy(workspace.input / name, files / name)
    return entries


def run_demo(version: str, out: Path, sounds: Path | None, models: str) -> int:
    """Run the examples, write report.json and index.html; 0 only if every example succeeded."""
    files = out / "files"
    entries = run_examples(version, files, sounds, models)
    (out / "index.html").write_text(page.render(version, NOTES[models], entries, files), encoding="utf-8")
    report = {
        "host_version": version,
        "note": NOTES[models],
        "workflows": [{key: value for key, value in entry.items() if key != "page"} for entry in entries],
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = [entry["name"] for entry in entries if entry["status"] != "success"]
    say(f"{len(entries) - len(failed)} of {len(entries)} workflows succeeded; open {out / 'index.html'}")
    return 1 if failed or not entries else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sounds", type=Path)
    parser.add_argument("--models", choices=tuple(NOTES), default="pocket")
    options = parser.parse_args()
    try:
        if options.sounds and not options.sounds.is_dir():
            raise DevError(f"{options.sounds} is no folder. Name a folder with recordings.")
        return run_demo(options.host, options.out, options.sounds, options.models)
    except DevError as error:
        print(f"dev.py demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
