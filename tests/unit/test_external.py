"""`dev.py --path`, `--frontend`: a ComfyUI that is already there is found, used and left as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from aai_pack.devtools import cli, external, frontend, hosts

PYTHON = os.environ.get(external.PYTHON)


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """A cache of its own; what these tests choose is forgotten after each."""
    for name in (external.PATH, external.PYTHON, frontend.ROOT, "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def theirs() -> str:
    """A Python with PyTorch: this one, or where these tests run in an environment beside a person's own, theirs."""
    return PYTHON or sys.executable


@pytest.fixture
def checkout(tmp_path) -> Path:
    folder = tmp_path / "their comfyui"
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfy" / "sd.py").touch()
    (folder / "comfyui_version.py").write_text('# generated\n__version__ = "0.99.1"\n')
    return folder


def contents(folder: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_checkout_and_its_python(checkout, capsys):
    before = contents(checkout)
    assert cli.main(["host", "--path", str(checkout), "--python", sys.executable, "--print"]) == 0
    assert f'"comfyui": "{checkout}"' in capsys.readouterr().out
    host = hosts.ensure_host("0.30.0")
    assert host == hosts.Host("0.99.1", sys.executable, str(checkout)), "whatever version was asked for"
    assert contents(checkout) == before


def test_processes_that_are_started_have_the_same_host(checkout):
    external.choose(str(checkout), sys.executable)
    root = Path(hosts.__file__).resolve().parents[1]
    command = [sys.executable, str(root / "dev.py"), "host", "--host", "0.99.1", "--print"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and str(checkout) in done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="links to interpreters")
def test_the_python_of_its_environment_is_found(checkout):
    folder = checkout / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    assert external._python_of(checkout) == str(folder / "python")


def test_tools_are_installed_beside_it(checkout, theirs):
    """The environment for tests has the packages of its Python and what is added, and its Python has not."""
    own = external.choose(str(checkout), theirs)
    folder = Path(os.environ["AAI_CACHE"]) / external.folder_name(own)
    external.build_overlay(own, folder)
    python = hosts.venv_python(folder / "venv")
    site = subprocess.run(
        [str(python), "-c", "import sysconfig, torch; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(site).is_relative_to(folder), "what pip installs would go into theirs"
    stamp = (folder / "venv.stamp").stat().st_mtime_ns
    external.build_overlay(own, folder)
    assert (folder / "venv.stamp").stat().st_mtime_ns == stamp, "it is made once"


def test_their_packages_are_constraints_for_the_tools(checkout, tmp_path):
    own = external.External("0.99.1", sys.executable, str(checkout))
    external.write_constraints(own, tmp_path / "theirs.txt")
    lines = (tmp_path / "theirs.txt").read_text(encoding="utf-8").splitlines()
    assert {f"{name}=={version(name)}" for name in ("torch", "numpy", "safetensors")} <= set(lines)
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--path", "{tmp}"], "holds no ComfyUI"),
        (["--path", "{checkout}", "--python", "{tmp}/no-python"], "cannot be started"),
        (["--python", "python"], "Name its folder with --path"),
        (["--frontend", "../1"], "no version of the front end"),
        (["--frontend", "newest"], "no version of the front end"),
    ],
)
def test_what_is_wrong_is_one_line(checkout, tmp_path, capsys, arguments, told):
    given = [text.format(tmp=tmp_path, checkout=checkout) for text in arguments]
    assert cli.main(["host", *given]) == 1
    assert told in capsys.readouterr().err


def test_another_front_end(tmp_path, monkeypatch):
    """Fetched once from the index, and named to every server."""
    index = tmp_path / "index"
    index.mkdir()
    info = "comfyui_frontend_package-9.9.9.dist-info"
    with zipfile.ZipFile(index / "comfyui_frontend_package-9.9.9-py3-none-any.whl", "w") as wheel:
        wheel.writestr("comfyui_frontend_package/static/index.html", "<html>")
        wheel.writestr("comfyui_frontend_package/static/scripts/app.js", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: comfyui-frontend-package\nVersion: 9.9.9\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert frontend.arguments() == ()
    folder = frontend.choose("9.9.9")
    assert (folder / "scripts" / "app.js").is_file() and frontend.arguments() == ("--front-end-root", str(folder))
    (index / "comfyui_frontend_package-9.9.9-py3-none-any.whl").unlink()
    assert frontend.choose("9.9.9") == folder
