"""A comparison made by a real ComfyUI over HTTP: pictures, workflows, what is resumed and what fails."""

from __future__ import annotations

import json
import os
import threading

import pytest
from aai_pack.aai_models.errors import StudyError
from aai_pack.aai_models.study import cli, plan
from aai_pack.aai_models.study.make import make
from aai_pack.aai_models.study.record import Record, file_hash, is_picture
from aai_pack.aai_models.study.server import Server
from aai_pack.tests.comparisons import HTML, write_wave
from PIL import Image

SHORT = {"steps": 2, "learning_rate": 0.02, "batch_size": 1, "resolution": 128, "prompt": "a photo of a <A*>"}


def table(folder, **more) -> dict:
    """A plan of two sounds, one of the pocket world and one of files, and a method of another system."""
    scene = {"thing": "cat", "place": "snow", "colour": "red", "style": "photo", "loudness": 0.5, "seed": 0, "count": 2}
    write_wave(folder / "bell.wav", seconds=1.0)
    for name in ("a.png", "b.jpg", "other/cat/1.png", "other/bell/1.png", "other/bell/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (folder / name).write_text("no picture")
        else:
            Image.new("RGB", (150, 128), (200, 40, 90)).save(folder / name)
    sounds = [
        {
            "name": "cat",
            "audio": {"pocket": {"thing": "cat", "loudness": 0.5, "seed": 1}},
            "references": [{"pocket": scene}],
            "held_out": [{"pocket": {**scene, "seed": 9}}],
        },
        {"name": "bell", "word": "bell", "audio": "bell.wav", "references": ["a.png", "b.jpg"], "held_out": ["a.png"]},
    ]
    found = {
        **{"name": "test", "models": {"pocket": {}}, "size": [128, 128], "prompts": ["a {} in the snow"], "seeds": [1]},
        **{"sampler": {"steps": 2, "cfg": 5.0}, "training": SHORT, "untrained": {"vocabulary": 500}, "sounds": sounds},
        "methods": ["word", "inversion", "untrained", "adapter", {"name": HTML, "folder": "other"}],
    }
    return {**found, **more}


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    """(plan's file, folder) of a comparison that the command made."""
    base = tmp_path_factory.mktemp("study")
    (base / "plan.json").write_text(json.dumps(table(base)), encoding="utf-8")
    folder = base / "out"
    assert cli.main(["make", str(base / "plan.json"), "--server", server.url, "--out", str(folder)]) == 0
    return base / "plan.json", folder


def test_every_cell_has_its_picture_and_its_workflow(made):
    record = Record.open(made[1])
    assert len(record.pictures) == 10 and not record.missing()
    for picture in record.pictures.values():
        assert is_picture(made[1] / picture.file)
        if picture.method == HTML:
            assert not picture.workflow
            continue
        with Image.open(made[1] / picture.file) as opened:
            inside = json.loads(opened.info["prompt"])
        for node in inside.values():
            node.pop("is_changed", None)  # what the host notes about a node whose file may change
        assert inside == json.loads((made[1] / picture.workflow).read_text(encoding="utf-8")), "the exact workflow"
    assert {is_picture(made[1] / name) for name in ("sheet.png", "sheets/prompt_1.png")} == {True}
    bell = record.material["bell"]
    assert len(bell.references) == 2 and len(bell.held_out) == 1 and (made[1] / bell.audio).stat().st_size > 1000
    page = (made[1] / "index.html").read_text(encoding="utf-8")
    assert "onerror=&quot;" in page and HTML not in page


def test_methods_draw_different_pictures_from_one_noise(made):
    record = Record.open(made[1])
    own = [p.sha256 for p in record.pictures.values() if p.sound == "cat" and p.method != HTML]
    assert len(set(own)) == 4


def test_it_goes_on_where_it_was(made, server):
    found, told = plan.read_plan(made[0]), []
    make(found, Server(server.url), made[1], told.append)
    assert told == [], "nothing is made twice"
    record = Record.open(made[1])
    lost, changed = (made[1] / record.pictures[("cat", name, 0, 0)].file for name in ("plain word", "sound, untrained"))
    before = file_hash(changed)
    lost.unlink()
    changed.write_bytes(b"cut")
    make(found, Server(server.url), made[1], told.append)
    assert len(told) == 2 and is_picture(lost) and file_hash(changed) == before


def test_a_cancel_in_comfyui_ends_it_and_the_same_call_goes_on(made, server, tmp_path):
    content = table(tmp_path, sampler={"steps": 4000, "cfg": 5.0}, methods=["word"])
    slow = plan.parse_plan(content, tmp_path)
    talk, errors, ended = Server(server.url), [], threading.Event()

    def interrupt():
        while not ended.wait(0.5):
            if (tmp_path / "out" / "workflows").exists():
                talk._ask("/interrupt", b"{}", "application/json")

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        make(slow, talk, tmp_path / "out", errors.append)
    except StudyError as error:
        errors.append(str(error))
    finally:
        ended.set()
        thread.join()
    assert "cancelled in ComfyUI" in errors[-1]
    quick = plan.parse_plan({**content, "sampler": {"steps": 1, "cfg": 5.0}}, tmp_path)
    assert not make(quick, talk, tmp_path / "out", errors.append).missing()


def test_what_fails_is_named_and_the_rest_is_made(server, tmp_path, capsys):
    (tmp_path / "plan.json").write_text(
        json.dumps(table(tmp_path, methods=["word", "untrained"], untrained={"vocabulary": -5})), encoding="utf-8"
    )
    command = ["make", str(tmp_path / "plan.json"), "--server", server.url, "--out", str(tmp_path / "out")]
    assert cli.main(command) == 1
    told = capsys.readouterr()
    assert "2 of 4 pictures" in told.out and "missing: cat, sound, untrained" in told.err and "vocabulary" in told.err
    record = Record.open(tmp_path / "out")
    assert record.cell("cat", "plain word", 0, 0) and not record.cell("cat", "sound, untrained", 0, 0)


def test_another_system_s_missing_pictures_are_named(server, tmp_path):
    content = table(tmp_path, methods=["word", {"name": "other", "folder": "other"}], seeds=[1, 2])
    record = make(plan.parse_plan(content, tmp_path), Server(server.url), tmp_path / "out", lambda text: None)
    assert len(record.missing()) == 2 and all("holds 1 pictures, and 2 are needed" in told for told in record.missing())


def test_wrong_names_are_sentences(server, tmp_path, capsys):
    content = table(tmp_path)
    bell = content["sounds"][1]
    cases = {
        "gone.wav cannot be read": {"sounds": [{**bell, "audio": "gone.wav"}]},
        "There is no folder": {"methods": ["word", {"name": "other", "folder": "nowhere"}]},
        "The sound 'bell' or its pictures cannot be read": {"sounds": [{**bell, "audio": "b.wav"}]},
    }
    (tmp_path / "b.wav").write_text("no sound")
    for told, change in cases.items():
        (tmp_path / "plan.json").write_text(json.dumps({**content, **change}), encoding="utf-8")
        command = ["make", str(tmp_path / "plan.json"), "--server", server.url, "--out", str(tmp_path / "out")]
        assert cli.main(command) == 1
        assert told in capsys.readouterr().err
    assert cli.main(["make", str(tmp_path / "plan.json"), "--server", "http://127.0.0.1:9"]) == 1
    assert "There is no ComfyUI at http://127.0.0.1:9" in capsys.readouterr().err
    assert not os.path.exists("plan"), "nothing was written"


def test_the_demo_s_comparison_that_fails_is_an_entry_of_its_report(tmp_path):
    from aai_pack.devtools import comparison

    found = comparison.compare("http://127.0.0.1:9", tmp_path)
    assert found["status"] == "error" and "There is no ComfyUI" in found["error"]
