"""The house keeps its shape: arrows between folders, comfy-free method, light entry point."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "nodes", "execution"}
METHOD = {"aai_models", "aai_models.audio", "aai_models.align", "aai_models.adapt", "aai_models.inject"}
# Align's own rooms, each above the one before: towers, losses, texts; data; training; judging; the commands.
ALIGN = [f"aai_models.align{room}" for room in ("", ".data", ".train", ".judge")]
COMMANDS = ("aai_models.align.cli", "aai_models.align.__main__")
HOST = [f"nodes.host{room}" for room in ("", ".base", ".hear", ".adapt", ".inject", ".pocket")]
# Which rooms a room may use. A module belongs to the room with the longest name that fits.
ALLOWED = {
    "": {"nodes"},
    "nodes": {"nodes", *HOST} | METHOD,
    "nodes.host": set(),  # nothing lies there but its rooms
    "nodes.host.base": {"nodes.host.base"} | METHOD,
    "nodes.host.hear": {"nodes.host.base", "nodes.host.hear"} | METHOD,
    "nodes.host.adapt": {"nodes.host.base", "nodes.host.adapt"} | METHOD,
    "nodes.host.inject": {"nodes.host.base", "nodes.host.hear", "nodes.host.adapt", "nodes.host.inject"} | METHOD,
    "nodes.host.pocket": {*HOST, "pocket"} | METHOD,
    "aai_models": {"aai_models"},
    "aai_models.audio": {"aai_models", "aai_models.audio"},
    **{room: {"aai_models", "aai_models.audio", *ALIGN[: floor + 1]} for floor, room in enumerate(ALIGN)},
    **{room: {"aai_models", "aai_models.audio", *ALIGN, *COMMANDS} for room in COMMANDS},
    "aai_models.adapt": {"aai_models", "aai_models.audio", "aai_models.adapt"},
    "aai_models.inject": {"aai_models", "aai_models.audio", "aai_models.inject"},
    # Compares the methods over ComfyUI's API, so that it needs no other stage; of Align it uses the encoders alone.
    "aai_models.study": {"aai_models", "aai_models.audio", "aai_models.align", "aai_models.study"},
    "pocket": {"pocket"} | METHOD,
    "devtools": {"devtools"},
    "lab": {"lab", "devtools", "pocket", "aai_models.study", *ALIGN[1:]} | METHOD,
}
PRODUCT = ("aai_models", "nodes", "pocket", "lab", "devtools")


def product_files() -> list[Path]:
    files = [path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")]
    return [ROOT / "__init__.py", *sorted(files)]


def room_of(module: str) -> str:
    return max((room for room in ALLOWED if module == room or module.startswith(f"{room}.") or not room), key=len)


def imported_modules(path: Path) -> tuple[set[str], set[str]]:
    """What a file imports of ours and of others, as dotted names.

    Ours are the relative imports, resolved from the pack's root; outside `nodes/` also the absolute imports of a room
    of ours. Inside `nodes/`, where ComfyUI runs, an absolute `nodes` is the host's module.
    """
    package = list(path.relative_to(ROOT).parent.parts)
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            others |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            ours |= {".".join([*base, alias.name]) for alias in node.names}
    if "nodes" not in package[:1]:
        absolute = {module for module in others if module.split(".")[0] in PRODUCT}
        ours, others = ours | absolute, others - absolute
    return ours, others


# In a host's process, or started by a benchmark as one.
INSIDE_A_HOST = (
    "devtools/in_process.py",
    *("lab/bench/adapt_child.py", "lab/bench/adapt_models.py", "lab/bench/edit_child.py", "lab/bench/memory_child.py"),
    "lab/bench/operations_child.py",
    "lab/reliability/fork_host.py",
    *("lab/scoreboard/inside.py", "lab/scoreboard/speed.py", "lab/scoreboard/studio.py"),
)


@pytest.mark.parametrize("path", product_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_one_way(path):
    module = module_of(path)
    room = room_of(module)
    for imported in imported_modules(path)[0]:
        assert room_of(imported) in ALLOWED[room], f"{module} ({room or 'root'}) imports {imported}"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def test_no_module_leads_back_to_itself():
    """Imports inside functions count too: they hide a circle, they do not open it."""
    modules = {module_of(path): path for path in product_files()}
    graph = {
        module: {(name if name in modules else name.rpartition(".")[0]) for name in imported_modules(path)[0]}
        - {module}
        for module, path in modules.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", product_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_nodes_know_the_host(path):
    top = path.relative_to(ROOT).parts[0]
    used = {module.split(".")[0] for module in imported_modules(path)[1]} & HOST_MODULES
    if top == "nodes":
        is_declaration = "host" not in path.relative_to(ROOT).parts
        assert used <= ({"comfy_api"} if is_declaration else HOST_MODULES)
    elif path.relative_to(ROOT).as_posix() not in INSIDE_A_HOST:
        assert not used


@pytest.mark.parametrize("path", product_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_belongs_there_and_stays_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= (45 if path == ROOT / "__init__.py" else 350)


def test_torchaudio_is_never_required():
    for path in product_files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = {a.name.split(".")[0] for n in top for a in n.names} | {getattr(n, "module", "") or "" for n in top}
        assert "torchaudio" not in names, path


def test_the_method_imports_without_comfy_and_nodes_stays_the_hosts():
    code = (
        "import sys, pkgutil, importlib; sys.path.insert(0, sys.argv[1]); import aai_models\n"
        "for m in pkgutil.walk_packages(aai_models.__path__, 'aai_models.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "bad = sorted(n for n in sys.modules if n.split('.')[0] in {'comfy', 'comfy_api', 'nodes', 'torchaudio', 'av'})\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, str(ROOT)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_no_runtime_dependencies():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "\ndependencies = []\n" in text
    assert not (ROOT / "requirements.txt").exists()


def test_the_extra_for_training_is_what_tests_run_with():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    lists = [line.partition("]")[0] for line in lines if line.startswith("train = [")]
    assert len(lists) == 2 and lists[0] == lists[1]


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", str(ROOT)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(version("numpy").startswith("1."), reason="older libraries declare their types otherwise")
def test_types():
    """The method's types hold, with nothing waved through: no `Any`, no comment that silences the checker."""
    command = [sys.executable, "-m", "ty", "check", "--project", str(ROOT), "--python", sys.executable]
    done = subprocess.run([*command, "--output-format", "concise"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (ROOT / "aai_models").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        assert not names & {"Any", "cast"} and "type: ignore" not in text and "ty: ignore" not in text, path


CALLS = (
    *("too-many-positional-arguments", "missing-argument", "unknown-argument", "parameter-already-assigned"),
    "unresolved-reference",
)


def test_every_call_fits_what_it_calls(tmp_path):
    """Also in code that no test runs, such as the long ones of `lab/`. Only as `aai_pack` do the imports lead anywhere."""
    copy = tmp_path / "aai_pack"
    for room in ("aai_models", "devtools", "lab", "nodes", "pocket", "tests"):
        for path in (ROOT / room).rglob("*.py"):
            (copy / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy / path.relative_to(ROOT))
    command = [sys.executable, "-m", "ty", "check", "--project", str(tmp_path), "--python", sys.executable]
    places = [argument for path in (Path.cwd(), copy) for argument in ("--extra-search-path", str(path))]
    rules = ["--ignore", "all", *(argument for rule in CALLS for argument in ("--error", rule))]
    done = subprocess.run([*command, *places, *rules, "--output-format", "concise"], capture_output=True, text=True)
    assert done.returncode == 0 and "All checks passed" in done.stdout, done.stdout + done.stderr
