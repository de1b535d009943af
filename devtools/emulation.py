"""An accelerator that a processor plays, for tests on machines without one: compiled here, found by every process of a host.

`emulated/accelerator.cpp` says what it asks of a program as a real one does. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .browser import install_from_debian
from .cache import cache_root, ensure_folder, lock
from .hosts import Host, explain_failure
from .report import DevError, step

PARTS = Path(__file__).parent / "emulated"
SOURCE = PARTS / "accelerator.cpp"
LIBRARY = "AAI_EMULATED_LIBRARY"
COMPILERS = ("c++", "g++", "clang++")
WHAT_COMPILES = "It takes PyTorch 2.6 to 2.14 and a compiler of C++20. Use these, or run with --device cpu."
QUESTION = (
    "import json, pathlib, torch; print(json.dumps([torch.__version__, str(pathlib.Path(torch.__file__).parent),"
    " int(torch._C._GLIBCXX_USE_CXX11_ABI)]))"
)


def environment(host: Host) -> dict[str, str]:
    """What makes the device known to every process that inherits it. Raises `DevError` where it cannot be built."""
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(PARTS), *([before] if before else [])])
    return {LIBRARY: str(_ensure_library(host)), "PYTHONPATH": path}


def _ensure_library(host: Host) -> Path:
    """The device for this host's PyTorch, compiled once into the cache."""
    if sys.platform != "linux":
        raise DevError("The emulated device is built on Linux alone. Run with --device cpu.", code=2)
    version, torch, abi = _torch_of(host)
    parts = b"".join(path.read_bytes() for path in sorted(PARTS.iterdir()) if path.suffix in (".cpp", ".h"))
    mark = hashlib.sha256(parts + f"{version} {torch}".encode()).hexdigest()[:12]
    folder = ensure_folder(cache_root() / "emulated")
    library = folder / f"{mark}.so"
    with lock(folder / "build.lock"):
        if not library.exists():
            compiler = _ensure_compiler()
            with step(f"compiling the emulated device for PyTorch {version}"):
                _compile(compiler, torch, abi, library)
    return library


def _torch_of(host: Host) -> tuple[str, Path, int]:
    clean = {name: value for name, value in os.environ.items() if name != LIBRARY}
    done = subprocess.run([host.python, "-c", QUESTION], capture_output=True, text=True, env=clean)
    if done.returncode:
        raise DevError(f"{host.python} cannot import PyTorch: {done.stderr.strip()[-300:]}")
    version, folder, abi = json.loads(done.stdout)
    return version, Path(folder), abi


def _ensure_compiler() -> str:
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None and install_from_debian("g++"):
        found = shutil.which("g++")
    if found is None:
        raise DevError(
            "The emulated device needs a C++ compiler, and none was found on PATH. Install one (Debian: "
            "`apt-get install g++`), or run with --device cpu.",
            code=2,
        )
    return found


def _compile(compiler: str, torch: Path, abi: int, library: Path) -> None:
    include, libraries, partial = torch / "include", torch / "lib", library.with_suffix(".partial")
    command = [compiler, "-O1", "-std=c++20", "-shared", "-fPIC", f"-D_GLIBCXX_USE_CXX11_ABI={abi}"]
    command += [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", str(SOURCE), "-o", str(partial)]
    command += [f"-L{libraries}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        errors = (line for line in done.stdout.splitlines() if "error:" in line)
        said = next(errors, done.stdout)  # the first one: the others often follow from it
        raise DevError(explain_failure(f"Compiling the emulated device with {compiler}", said, WHAT_COMPILES))
    os.replace(partial, library)
