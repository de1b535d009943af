"""The editor as it looks after a run of the examples: a picture of each node for its help page, one of a workflow for README.

`python dev.py screenshots` writes them.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image

from . import editor_copy, workflows
from .browser import NO_BROWSER, find_browser
from .help_pages import FOLDER as HELP
from .help_pages import PICTURE
from .hosts import ROOT, ensure_host, ensure_recordings
from .report import DevError, say
from .schema import load_snapshot
from .server import Server, Workspace

SHOWN = "06 Word without training"  # the example in README
EDITOR = ROOT / "assets" / "editor.jpg"
RECORDING = "boom.wav"  # what Load Sound shows
MARGIN, LEFT, TOP = 12, 420, 110  # pixels around a node; where it is put, clear of the editor's bars
WIDTH, QUALITY = 1100, 80  # README's picture; JPEG
PAINTED = 1200  # milliseconds until a view is drawn: the editor paints few frames a second here
DRAWN = 3000  # milliseconds until a waveform is read and drawn
# Later than in the first example that has it, a node shows more.
BEST = {
    "AAI_AttentionHeatmap": "07 Sound in a scene",
    "AAI_AudioTokenConditioning": "06 Word without training",
    "AAI_TrainAudioToken": "12 New thing",
}
# What lies over the graph.
QUIET = {"Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False, "Comfy.NodeBadge.NodeSourceBadgeMode": "None"}
VIEW = """([id, left, top]) => {
    const node = app.graph.getNodeById(id), box = new Float32Array(4), canvas = app.canvas;
    canvas.deselectAll();
    node.measure(box);
    canvas.ds.scale = 1;
    canvas.ds.offset = [left - box[0], top - box[1]];
    canvas.setDirty(true, true);
    return [box[2], box[3]];
}"""
FIT = """([left, top, right, bottom]) => {
    const box = new Float32Array(4), canvas = app.canvas, ends = [Infinity, Infinity, -Infinity, -Infinity];
    for (const part of [...app.graph.nodes, ...app.graph.groups]) {
        if (part.measure) part.measure(box); else box.set(part.boundingRect ?? part._bounding);
        ends[0] = Math.min(ends[0], box[0]); ends[1] = Math.min(ends[1], box[1]);
        ends[2] = Math.max(ends[2], box[0] + box[2]); ends[3] = Math.max(ends[3], box[1] + box[3]);
    }
    const width = ends[2] - ends[0], height = ends[3] - ends[1];
    const scale = Math.min((right - left) / width, (bottom - top) / height);
    canvas.deselectAll();
    canvas.ds.scale = scale;
    canvas.ds.offset = [left / scale - ends[0], top / scale - ends[1]];
    canvas.setDirty(true, true);
    return [width * scale, height * scale];
}"""
OURS = """() => app.graph.nodes.filter(node => node.type.startsWith("AAI_") && node.mode === 0)
    .map(node => [node.type, node.id])"""
ALONE = """async type => {
    await app.loadGraphData({nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4}, true, true);
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    await app.refreshComboInNodes(); // words that the examples saved
    return node.id;
}"""


def write(editor) -> None:
    """Run every example and write what its nodes look like; then those that stand in no example, alone."""
    left = set(load_snapshot())
    for name in workflows.names():
        kinds = {node["class_type"] for node in workflows.load_api(name).values()}
        if name != SHOWN and not {kind for kind in kinds & left if BEST.get(kind, name) == name}:
            continue
        editor.load(workflows.load_editor(name))
        end, why = editor.press_run()
        if end != "success":
            raise DevError(f"{name} ended with {end}: {why}")
        for kind, number in editor.page.evaluate(OURS):
            if kind in left and BEST.get(kind, name) == name:
                _write_node(editor, kind, number)
                left.discard(kind)
        if name == SHOWN:
            _write_workflow(editor)
        say(f"{name}: {len(left)} nodes left")
    for kind in sorted(left):
        number = editor.page.evaluate(ALONE, kind)
        editor.page.wait_for_timeout(DRAWN)
        _write_node(editor, kind, number)


def _write_node(editor, kind: str, number: int) -> None:
    width, height = editor.page.evaluate(VIEW, [number, LEFT, TOP])
    editor.page.wait_for_timeout(PAINTED)
    clip = {"x": LEFT - MARGIN, "y": TOP - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    (HELP / kind / PICTURE).write_bytes(_jpeg(_shot(editor, clip)))


def _write_workflow(editor) -> None:
    size = editor.page.viewport_size
    frame = [90, 110, size["width"] - 40, size["height"] - 40]
    width, height = editor.page.evaluate(FIT, frame)
    editor.page.wait_for_timeout(PAINTED)
    clip = {"x": frame[0] - MARGIN, "y": frame[1] - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    picture = _shot(editor, clip)
    picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    EDITOR.write_bytes(_jpeg(picture))


def _shot(editor, clip: dict) -> Image.Image:
    editor.page.add_style_tag(content=".p-toast { display: none }")
    return Image.open(io.BytesIO(editor.page.screenshot(clip=clip))).convert("RGB")


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def main() -> int:
    from .editor import Editor

    parser = argparse.ArgumentParser(prog="dev.py screenshots")
    parser.add_argument("--host", required=True)
    host = ensure_host(parser.parse_args().host)
    try:
        browser = find_browser()
        if browser is None:
            raise DevError(NO_BROWSER)
        with Workspace() as workspace:
            shutil.copy(Path(host.comfyui) / "input" / editor_copy.EXAMPLE_PICTURE, workspace.input)
            shutil.copy(ensure_recordings() / RECORDING, workspace.input)
            with Server(host, workspace) as server:
                editor = Editor(server.url, browser, nodes_2=False)
                for name, value in QUIET.items():
                    editor.set(name, value)
                with editor:
                    editor.page.set_viewport_size({"width": 2000, "height": 1300})
                    write(editor)
    except DevError as error:
        print(f"dev.py screenshots: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
