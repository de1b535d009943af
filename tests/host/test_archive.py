"""What a person gets from the registry: it is small, holds nothing for developers, loads in a real ComfyUI and runs there."""

from __future__ import annotations

import ast

import pytest
from aai_pack.devtools import archive, workflows
from aai_pack.devtools.client import Client
from aai_pack.devtools.server import PACK_FOLDER, Server, Workspace

LIMIT = 18_000_000  # bytes
ROOMS = {"aai_models", "nodes", "pocket", "web", "example_workflows", "subgraphs", "locales"}
PAPERS = {"__init__.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"}


def test_it_holds_what_nodes_need_and_nothing_else():
    files = archive.files()
    assert {path.parts[0] for path in files} <= ROOMS | PAPERS
    assert {path.parts[0] for path in files} >= {"aai_models", "nodes", "pocket", "web", "__init__.py", "LICENSE"}
    assert not [path for path in files if path.parts[:2] == ("aai_models", "study")], "a laboratory's tool"
    pages = {path.parts[2] for path in files if path.parts[:2] == ("web", "docs")}
    assert "AAI_TrainAudioToken" in pages, "a pattern for the repository's docs leaves out the nodes' help"


def test_it_is_small(tmp_path, capsys):
    size = archive.pack(tmp_path / "pack.zip")
    with capsys.disabled():
        print(f"\nthe registry's archive: {len(archive.files())} files, {size / 1e6:.1f} MB")
    assert size < LIMIT


def test_nothing_in_it_runs_code_from_text_or_other_programs():
    for path in (path for path in archive.files() if path.suffix == ".py"):
        for node in ast.walk(ast.parse((archive.ROOT / path).read_text(encoding="utf-8"))):
            used = set()
            if isinstance(node, ast.Name):
                used = {node.id} & {"eval", "exec", "__import__"}
            elif isinstance(node, ast.Attribute):
                used = {node.attr} & {"import_module", "system", "popen", "spawnv", "execv"}
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                used = names & {"subprocess", "import_module", "ctypes", "pickle"}
            assert not used, f"{path}:{node.lineno} uses {', '.join(used)}"


@pytest.fixture(scope="module")
def installed(host):
    """A server with the archive's files in `custom_nodes`, and no checkout beside it."""
    with Workspace(pack=False) as workspace:
        archive.copy(workspace.root / "custom_nodes" / PACK_FOLDER)
        with Server(host, workspace) as server:
            yield server


def test_it_loads_and_draws_a_sound(installed):
    client = Client(installed.url)
    assert "IMPORT FAILED" not in installed.log.read_text()
    nodes = [name for name in client.get("/object_info") if name.startswith("AAI_")]
    assert {"AAI_PocketModels", "AAI_TrainAudioToken"} <= set(nodes)
    run = client.run(workflows.load_api("11 Four pictures at once"))
    assert run.status == "success", run.message
    (saved,) = (node["images"] for node in run.outputs.values() if node.get("images", [{}])[0].get("type") == "output")
    assert len(saved) == 4 and all(client.fetch(file).startswith(b"\x89PNG") for file in saved)
    offered = client.get("/workflow_templates")
    assert sorted(offered[PACK_FOLDER]) == sorted(workflows.names())
