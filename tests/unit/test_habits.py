"""What contributors stand on: the map of AGENTS.md leads somewhere, forms and workflows are well-formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FORMS = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml")
)


def test_every_path_in_the_map_exists():
    text = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([\w./-]+/[\w./-]*)`", text)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_tests_before_a_commit_exist():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    tests = re.findall(r"tests/\S+\.py", text)
    assert tests and not [path for path in tests if not (ROOT / path).is_file()]


@pytest.mark.parametrize("name", FORMS)
def test_it_is_well_formed(name):
    found = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict) and found
    if "workflows" in name:
        assert all("uses" in job or job["steps"] for job in found["jobs"].values())


def test_a_version_is_published_after_the_tests_alone():
    jobs = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["publish"]["needs"] == "test" and jobs["test"]["uses"] == "./.github/workflows/test.yml"
