"""ComfyUI-Manager and six other packs as they are published, in one server with ours.

What the package index does not carry is in `test_neighbour_packs.py`, as test doubles that patch as those packs do.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from aai_pack.devtools import neighbours, workflows
from aai_pack.devtools.client import Client
from aai_pack.devtools.server import Server, Workspace
from aai_pack.tests.shortened import shortened
from PIL import Image

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="three of these packs need Python 3.11")
MANAGED = "--enable-manager"
NODES = {
    "comfyui_tooling_nodes": "ETN_CropImage",
    "ComfyUI_Ib_CustomNodes": "PILToImage",
    "comfyui_orbitquant": "OrbitQuantReleaseLoader",
    "comfyui_fluxflow": "FluxFlowSampler",
    "easy_nodes_of_mine": "Inverted",
}


@pytest.fixture(scope="module")
def arguments(host):
    """That of ComfyUI-Manager, where the host knows it."""
    known = (Path(host.comfyui) / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    return (MANAGED,) if MANAGED in known else ()


@pytest.fixture(scope="module")
def crowd(host, arguments):
    packages = neighbours.ensure_neighbours(host)
    with Workspace() as workspace:
        neighbours.lay_beside(workspace, packages)
        path = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(path)}
        with Server(host, workspace, arguments=arguments, environment=environment) as server:
            yield server


@pytest.fixture(scope="module")
def beside(crowd):
    return Client(crowd.url)


def opened(client: Client, file: dict) -> Image.Image:
    return Image.open(io.BytesIO(client.fetch(file)))


def pictures(client: Client, graph: dict) -> list[Image.Image]:
    """Run it, and every picture that came, by the node that it is of."""
    run = client.run(graph)
    assert run.status == "success", run.message
    files = [file for key in sorted(run.outputs) for file in run.outputs[key].get("images", [])]
    assert files
    return [opened(client, file) for file in files]


def equal(first: list[Image.Image], second: list[Image.Image]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(*map(np.asarray, two)) for two in zip(first, second, strict=True)
    )


def test_all_of_them_are_loaded(crowd, beside, client, arguments):
    log = crowd.log.read_text(errors="replace")
    assert "IMPORT FAILED" not in log
    assert not arguments or "[START] ComfyUI-Manager" in log
    found = beside.get("/object_info")
    assert found.keys() >= {*NODES.values()}
    ours = {name for name in client.get("/object_info") if name.startswith("AAI_")}
    assert ours and found.keys() >= ours


def test_the_manager_answers(beside, arguments):
    if not arguments:
        pytest.skip("this host knows no manager of its own")
    assert beside.get("/v2/customnode/installed") is not None


@pytest.mark.parametrize("name", ["01 Sound to picture", "07 Sound in a scene"])
def test_an_example_gives_the_same_pixels_as_without_them(beside, client, name):
    graph = shortened(workflows.load_api(name))
    alone = pictures(client, graph)
    assert equal(pictures(beside, graph), alone)


def test_their_nodes_take_our_pictures(beside):
    graph = shortened(workflows.load_api("01 Sound to picture"))
    (decoded,) = (key for key, node in graph.items() if node["class_type"] == "VAEDecode")
    graph = {key: node for key, node in graph.items() if node["class_type"] != "SaveImage"}

    def saved(key, kind: str, **inputs) -> dict:
        return {
            f"{key}a": {"class_type": kind, "inputs": inputs},
            f"{key}b": {"class_type": "PreviewImage", "inputs": {"images": [f"{key}a", 0]}},
        }

    graph |= {"plain": {"class_type": "PreviewImage", "inputs": {"images": [decoded, 0]}}}
    graph |= {"pil": {"class_type": "ImageToPIL", "inputs": {"images": [decoded, 0]}}}
    graph |= saved("back", "PILToImage", images=["pil", 0])
    graph |= saved("turned", "Inverted", image=[decoded, 0])
    graph |= saved("cut", "ETN_CropImage", image=[decoded, 0], x=16, y=8, width=32, height=24)
    run = beside.run(graph)
    assert run.status == "success", run.message

    def seen(key: str) -> np.ndarray:
        return np.asarray(opened(beside, run.outputs[key]["images"][0]).convert("RGB")).astype(int)

    plain = seen("plain")
    assert plain.std() > 1
    assert np.abs(seen("backb") - plain).max() <= 1
    assert np.abs(seen("turnedb") - (255 - plain)).max() <= 1
    assert np.array_equal(seen("cutb"), plain[8:32, 16:48])


def test_our_nodes_take_their_pictures(beside, client, workspace):
    """A photo that a program sends is stylised as one from the input folder is, and what comes is sent back to it."""
    photo = Image.fromarray(np.random.default_rng(3).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    file = io.BytesIO()
    photo.save(file, "PNG")
    (workspace.input / "sent.png").write_bytes(file.getvalue())
    sent = {"class_type": "ETN_LoadImageBase64", "inputs": {"image": base64.b64encode(file.getvalue()).decode()}}
    graph = shortened(workflows.load_api("09 Photo in the style of a sound"))
    (source,) = (node["inputs"] for node in graph.values() if node["class_type"] == "AAI_PhotoSource")
    (decoded,) = (key for key, node in graph.items() if node["class_type"] == "VAEDecode")
    source["image"] = ["photo", 0]
    own = pictures(client, graph | {"photo": {"class_type": "LoadImage", "inputs": {"image": "sent.png"}}})
    back = {"class_type": "ETN_SendImageWebSocket", "inputs": {"images": [decoded, 0]}}
    run = beside.run(graph | {"photo": sent, "back": back})
    assert run.status == "success", run.message
    assert len(run.outputs["back"]["images"]) == 2, "the photo and its edit"
    files = [f for key in sorted(run.outputs) for f in run.outputs[key].get("images", []) if "filename" in f]
    assert equal([opened(beside, f) for f in files], own)


def test_a_picture_tells_how_it_was_made_with_their_hook_on_it(beside):
    """ComfyScript writes each workflow as a program into the picture: it can read our nodes, and ComfyUI's own text stays."""
    (picture,) = (p for p in pictures(beside, shortened(workflows.load_api("06 Word without training"))) if p.text)
    assert "AAI_WordFromSound" in picture.text["prompt"]
    assert "AAIWordFromSound(" in picture.text["ComfyScript"]
