"""What ComfyUI's registry shows and checks: its own validator on what would be published, and a README that stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from . import archive
from .hosts import ROOT
from .report import DevError, say

CLI = "comfy-cli==1.23.0"
PUBLISHED = "comfyui-align-adapt-inject/comfyui-align-adapt-inject"  # as pyproject.toml has it
LINK = re.compile(r"(?P<mark>!?)\[(?P<label>[^]]*)\]\((?P<target>(?!https?:|#|mailto:)[^)\s]+)\)")
PLACEHOLDER = "THE_ADDRESS_OF_THIS_REPOSITORY"  # in README.md's install lines


def validate() -> int:
    """Run the registry's `comfy node validate` and `comfy node pack` on the files that git knows; 0 if it takes them.

    Nothing is published. Its own archive must hold the files that ours does.
    """
    with tempfile.TemporaryDirectory(prefix="aai-registry-") as folder:
        root, copy = Path(folder), Path(folder) / "comfyui-align-adapt-inject"
        say("installing comfy-cli into a folder that is removed again")
        venv.create(root / "venv", with_pip=True)
        python = root / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        _run([python, "-m", "pip", "install", "--quiet", CLI], root)
        for path in archive.tracked():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy / path)
        _run(["git", "init", "--quiet"], copy)
        _run(["git", "add", "--all", "--force"], copy)
        said = ""
        for what in ("validate", "pack"):
            command = [python, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "node", what]
            said += _run(command, copy, HOME=folder, USERPROFILE=folder)
        print(said.strip())
        with zipfile.ZipFile(copy / "node.zip") as packed:
            differs = set(packed.namelist()) ^ {
                path.as_posix() for path in archive.files() if path in archive.tracked()
            }
        if differs or "warning" in said.lower():
            raise DevError(f"The registry would warn, or pack other files than ours: {sorted(differs)[:5]}")
        return 0


def _run(command: list, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise DevError(f"{' '.join(map(str, command[:6]))} failed: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout + done.stderr  # it warns on either


def prepare(repository: str, version: str) -> None:
    """Write this checkout's README.md and pyproject.toml as they stand in the registry: for the publishing machine alone."""
    for name, change in (("README.md", standing_links), ("pyproject.toml", published_addresses)):
        path = ROOT / name
        path.write_text(change(path.read_text(encoding="utf-8"), repository, version), encoding="utf-8", newline="\n")


def standing_links(text: str, repository: str, version: str) -> str:
    """Markdown whose links and pictures of the repository are whole addresses, as of a tag or branch.

    repository: "owner/name" on GitHub.
    """
    raw = f"https://raw.githubusercontent.com/{repository}/{version}"
    page = f"https://github.com/{repository}/blob/{version}"

    def whole(match: re.Match) -> str:
        mark, target = match["mark"], match["target"]
        return f"{mark}[{match['label']}]({raw if mark else page}/{target})"

    return LINK.sub(whole, text).replace(PLACEHOLDER, f"https://github.com/{repository}")


def published_addresses(text: str, repository: str, version: str) -> str:
    """pyproject.toml with the addresses of the repository that publishes, its pictures those of the version."""
    return text.replace(f"{PUBLISHED}/main/", f"{PUBLISHED}/{version}/").replace(PUBLISHED, repository)


def changes(text: str) -> str:
    """The newest version's part of CHANGELOG.md, for the registry's page."""
    newest = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    return newest.partition("\n")[2].strip()
