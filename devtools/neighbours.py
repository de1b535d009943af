"""Other people's packs that the package index carries, installed beside ours as a person has them. Standard library only."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from .cache import cache_root, ensure_folder, lock
from .hosts import Host
from .report import DevError, say
from .server import Workspace, link_folder

# Are packs as they lie in their wheels. ComfyUI-Manager is none: the host imports it, `--enable-manager`.
FOLDERS = ("comfyui_tooling_nodes", "ComfyUI_Ib_CustomNodes", "comfyui_orbitquant", "comfyui_fluxflow")
# Packs that are a library: the folder of custom_nodes is somebody's own, and as each of their pages tells to write it.
WRITTEN = {
    "comfy_script": {
        "__init__.py": "from comfy_script.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS\n",
    },
    "easy_nodes_of_mine": {
        "__init__.py": "from .mine import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS\n",
        "mine.py": '''import easy_nodes

easy_nodes.initialize_easy_nodes(default_category="mine", auto_register=False)


@easy_nodes.ComfyNode()
def inverted(image: easy_nodes.ImageTensor) -> easy_nodes.ImageTensor:
    """The negative of a picture."""
    return 1 - image


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = easy_nodes.get_node_mappings()
''',
    },
}
WHEELS = (
    "comfyui-manager==4.3",
    "comfyui-tooling-nodes==0.1.0",
    "comfyui-ib-customnodes==0.2.3",
    "comfyui-orbitquant==0.9.0",
    "comfyui-fluxflow==0.8.0",
    "comfy-script==0.6.1",
    "ComfyUI-EasyNodes==1.2.7",
)
# What they need beyond ComfyUI's own requirements; by name, so that nothing of the host is installed a second time.
NEEDED = (
    *("GitPython", "gitdb", "smmap", "PyGithub", "pynacl", "pyjwt", "cryptography", "toml", "chardet", "nh3"),
    *("aenum", "dynaconf", "nest-asyncio2", "wrapt<2"),
    *("fluxflow==0.8.1", "matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing", "orjson"),
    *("ansi2html", "colorama", "coloredlogs", "humanfriendly", "openai", "distro", "jiter", "sniffio"),
)


def ensure_neighbours(host: Host) -> Path:
    """The folder of packages with all of them, built once for each host's Python. Raises `DevError` where pip fails."""
    stamp = hashlib.sha256("\n".join([host.python, *WHEELS, *NEEDED]).encode()).hexdigest()[:12]
    folder = cache_root() / "neighbours" / stamp
    with lock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            say("fetching other packs from the package index ...")
            part = ensure_folder(folder.with_suffix(".part"))
            command = [host.python, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(part)]
            done = subprocess.run([*command, *WHEELS, *NEEDED], capture_output=True, text=True, errors="replace")
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise DevError(f"Other packs could not be installed ({last}). Is the package index reached?")
            shutil.move(part, folder)
    return folder


def lay_beside(workspace: Workspace, packages: Path) -> None:
    """Put all of them into a workspace's custom_nodes."""
    place = workspace.root / "custom_nodes"
    for name in FOLDERS:
        link_folder(packages / name, place / name)
    for name, files in WRITTEN.items():
        (place / name).mkdir()
        for file, text in files.items():
            (place / name / file).write_text(text, encoding="utf-8")
