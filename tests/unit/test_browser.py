"""Which browser opens the editor, and when one is installed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
from aai_pack.devtools import browser, cli
from aai_pack.devtools.hosts import DEFAULT_VERSION, OLDEST_VERSION
from aai_pack.devtools.report import DevError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes programs as POSIX has them")


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine whose PATH is one empty folder, and the commands that would be run on it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("AAI_BROWSER", raising=False)
    monkeypatch.setattr(browser, "PLACES", {})
    monkeypatch.setattr(sys, "platform", "linux")
    commands = []

    def run(command, doing, **_):
        commands.append(command)
        if "install" in command:
            program(tmp_path, "chromium")

    monkeypatch.setattr(browser, "run_quietly", run)
    return tmp_path, commands


def test_what_path_has(bare):
    folder, commands = bare
    assert browser.find_browser() is None
    chrome = program(folder, "google-chrome")
    assert browser.ensure_browser() == str(chrome) and not commands
    assert browser.find_browser() == str(chrome)


def test_one_that_is_named(bare, monkeypatch):
    folder, commands = bare
    program(folder, "chromium")
    monkeypatch.setenv("AAI_BROWSER", str(program(folder, "mine")))
    assert browser.find_browser() == str(folder / "mine")
    monkeypatch.setenv("AAI_BROWSER", str(folder / "gone"))
    assert browser.ensure_browser() is None and not commands, "another one is not what was asked for"


@pytest.mark.parametrize("user", [0, 1000])
def test_it_is_installed_by_root_where_debian_is(bare, monkeypatch, user):
    folder, commands = bare
    monkeypatch.setattr(browser.os, "geteuid", lambda: user)
    assert browser.ensure_browser() is None and not commands, "there is no apt-get"
    program(folder, "apt-get")
    found = browser.ensure_browser()
    assert found == (str(folder / "chromium") if user == 0 else None)
    assert [command[:2] for command in commands] == (
        [["apt-get", "update"], ["apt-get", "install"]] if user == 0 else []
    )


@pytest.mark.parametrize("failure", [None, DevError("Installing chromium failed: no space")])
def test_without_one_the_other_tests_still_run_unless_it_was_asked_for(monkeypatch, capsys, failure):
    def ensure():
        if failure:
            raise failure

    monkeypatch.setattr(cli, "ensure_browser", ensure)
    told = str(failure or browser.NO_BROWSER)
    assert cli._with_browser(argparse.Namespace(host=DEFAULT_VERSION, path=None, browser=False)) == []
    assert told in capsys.readouterr().err
    assert cli._with_browser(argparse.Namespace(host=OLDEST_VERSION, path=None, browser=False)) == []
    assert not capsys.readouterr().err, "nobody asked for the editor of another host"
    for version in (DEFAULT_VERSION, OLDEST_VERSION):
        with pytest.raises(DevError) as caught:
            cli._with_browser(argparse.Namespace(host=version, path=None, browser=True))
        assert str(caught.value) == told
