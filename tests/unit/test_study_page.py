"""The page as a file, and the answers that come back: what participants cannot see, and whatever may be wrong with a file."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from aai_pack.aai_models.errors import StudyError
from aai_pack.aai_models.study import cli, collect, page
from aai_pack.aai_models.study.page import PageSettings
from aai_pack.aai_models.study.record import MANIFEST, Record
from aai_pack.devtools import locales
from aai_pack.tests.comparisons import HTML, answers, comparison
from PIL import Image

METHODS = ["plain word", "textual inversion", "sound, untrained", "sound + adapter"]
BEST = "sound + adapter"


def data_of(path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def study(tmp_path):
    """(folder, id, key of the study) of a written page."""
    page.write_page(comparison(tmp_path), PageSettings())
    ((name, key),) = page.read_key(tmp_path)["studies"].items()
    return tmp_path, name, key


def rate(method: str, item: dict) -> int:
    return 5 if method == BEST else 3 if item["sound"] == "cat" else 2


def save(study, number: int, name: str = "", **more) -> dict:
    """Write the answers of a participant into the folder `answers`."""
    folder, study_id, key = study
    given = answers(study_id, key, number, rate, lambda item: BEST, **more)
    (folder / "answers").mkdir(exist_ok=True)
    (folder / "answers" / f"{name or number}.json").write_text(json.dumps(given), encoding="utf-8")
    return given


def results(study, *options: str) -> dict:
    assert cli.main(["collect", str(study[0] / "answers"), *options]) == 0
    return json.loads((study[0] / "results" / collect.RESULTS).read_text(encoding="utf-8"))


class TestBlind:
    def test_nothing_names_a_method(self, study):
        folder, _, key = study
        text = (folder / "page" / "index.html").read_text(encoding="utf-8")
        assert sorted(key["methods"]) == sorted(METHODS)
        assert not [name for name in (*METHODS, "adapter", "inversion", "untrained") if name in text]
        assert not (folder / "page" / page.KEY).exists()

    def test_pictures_lose_the_workflow_that_comfyui_writes_into_them(self, study):
        folder, _, key = study
        shown = sorted((folder / "page" / "media").glob("*.png"))
        assert len(shown) == 12 and {p.stem for p in shown} == {p for item in key["items"] for p in item["pictures"]}
        for path in shown:
            assert b"prompt" not in path.read_bytes() and not Image.open(path).info

    def test_the_same_study_again_keeps_its_answers_valid(self, study):
        folder, study_id, key = study
        page.write_page(Record.open(folder), PageSettings())
        assert page.read_key(folder)["studies"] == {study_id: key}
        page.write_page(Record.open(folder), PageSettings(pilot=True))
        pilot = page.read_key(folder)["studies"]
        assert len(pilot) == 2 and (folder / "pilot" / "index.html").exists()


def test_html_in_names_stays_text(tmp_path):
    record = comparison(
        tmp_path, sounds=(HTML, "cat"), methods=("word", {"name": HTML, "kind": "adapter"}), prompts=[f"{{}} {HTML}"]
    )
    page.write_page(record, PageSettings(title=HTML + "@DATA@", contact=HTML, consent=HTML))

    class Elements(HTMLParser):
        found = []

        def handle_starttag(self, tag, attrs):
            self.found.append(tag)
            assert not [name for name, _ in attrs if name.startswith("on")]

    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    reader = Elements()
    reader.feed(text)
    assert "img" not in reader.found and reader.found.count("script") == 2
    assert data_of(tmp_path / "page" / "index.html")["consent"] == HTML
    from aai_pack.aai_models.study.overview import render

    reader.found.clear()
    reader.feed(render(record, []))
    assert "script" not in reader.found and "b" not in reader.found
    ((name, key),) = page.read_key(tmp_path)["studies"].items()
    given = answers(name, key, 1, lambda m, i: 3, lambda i: key["methods"][0]) | {"comment": HTML}
    (tmp_path / "a.json").write_text(json.dumps(given), encoding="utf-8")
    told = collect.collect([tmp_path / "a.json"], None, None, collect.CollectSettings())
    assert "<" not in told.replace("&lt;", "")
    drawn = ElementTree.fromstring((tmp_path / "results" / collect.PLOT).read_text(encoding="utf-8"))
    assert {element.tag.rpartition("}")[2] for element in drawn.iter()} <= {"svg", "g", "rect", "path", "text"}


def test_a_single_file_holds_everything(tmp_path):
    page.write_page(comparison(tmp_path), PageSettings(single=True))
    found = data_of(tmp_path / "page" / "index.html")
    assert all(p["file"].startswith("data:image/png;base64,") for i in found["items"] for p in i["pictures"])
    assert all(i["sound"].startswith("data:audio/") for i in found["items"])
    assert not (tmp_path / "page" / "media").exists()


class TestMissingPictures:
    def test_a_sound_without_a_picture_of_one_method_is_left_out_and_named(self, tmp_path, capsys):
        record = comparison(tmp_path)
        record.cell("train", "textual inversion", 0, 0).unlink()
        assert cli.main(["page", str(tmp_path)]) == 0
        assert "train: 1 of 1 lack a picture" in capsys.readouterr().out
        assert len(data_of(tmp_path / "page" / "index.html")["items"]) == 2

    def test_without_any_there_is_no_page(self, tmp_path, capsys):
        record = comparison(tmp_path)
        for sound in record.plan.sounds:
            record.cell(sound.name, "textual inversion", 0, 0).write_bytes(b"no picture")
        assert cli.main(["page", str(tmp_path)]) == 1
        assert "no sound with pictures of all methods" in capsys.readouterr().err
        names = [name for name in METHODS if name != "textual inversion"]
        assert cli.main(["page", str(tmp_path), *(f"--method={name}" for name in names)]) == 0

    def test_an_unknown_method_and_a_folder_that_is_none(self, tmp_path, capsys):
        comparison(tmp_path)
        assert cli.main(["page", str(tmp_path), "--method", "nobody"]) == 1
        assert cli.main(["page", str(tmp_path / "none")]) == 1
        (tmp_path / MANIFEST).write_text("{}", encoding="utf-8")
        assert cli.main(["page", str(tmp_path)]) == 1
        told = capsys.readouterr().err
        assert "'nobody'" in told and "make PLAN.json" in told and "cannot be used" in told

    def test_a_manifest_that_leads_outside_is_refused(self, tmp_path, capsys):
        comparison(tmp_path)
        content = (tmp_path / MANIFEST).read_text(encoding="utf-8").replace("pictures/0.png", "../secret.png")
        (tmp_path / MANIFEST).write_text(content, encoding="utf-8")
        assert cli.main(["page", str(tmp_path)]) == 1
        assert "outside" in capsys.readouterr().err


class TestCollected:
    def test_means_shares_and_files(self, study, capsys):
        for number in range(1, 9):
            save(study, number)
        found = results(study)
        assert found["participants"] == 8 and not found["left_out"]
        assert found["naturalness"][BEST]["value"] == 5
        assert found["naturalness"]["plain word"]["value"] == pytest.approx((2 + 2 + 3) / 3)
        assert found["preference"][BEST]["value"] == 1 and found["preference"]["plain word"]["value"] == 0
        (pair,) = (p for p in found["pairs"]["naturalness"] if {p["first"], p["second"]} == {BEST, "plain word"})
        assert abs(pair["difference"]) == pytest.approx(5 - 7 / 3) and pair["p"] == pytest.approx(2 / 2**8)
        assert found["alpha"]["naturalness"] == 1.0
        rows = list(csv.DictReader((study[0] / "results" / collect.TABLE).open(encoding="utf-8")))
        assert len(rows) == 8 * (12 + 2 + 3 + 1)
        chosen = [row for row in rows if row["part"] == "preference"]
        assert {row["method"] for row in chosen} == {BEST} and {row["sound"] for row in chosen} == {
            "rooster",
            "train",
            "cat",
        }
        assert "| sound + adapter" in capsys.readouterr().out

    def test_one_participant_is_a_result_without_intervals(self, study, capsys):
        save(study, 1)
        found = results(study)
        assert found["participants"] == 1 and found["naturalness"][BEST]["low"] is None
        assert "no intervals" in capsys.readouterr().out

    def test_two_files_of_one_participant_count_once(self, study):
        whole = save(study, 1)
        save(study, 1, name="copy")
        save(study, 1, name="earlier", count=5)
        save(study, 2)
        found = results(study)
        assert found["participants"] == 2 and len(found["left_out"]) == 2
        assert any("5 of the same answers" in told for told in found["left_out"])
        other = {**whole, "answers": [dict(a) for a in whole["answers"]]}
        other["answers"][0]["value"] = 1
        (study[0] / "answers" / "other.json").write_text(json.dumps(other), encoding="utf-8")
        assert any("other answers of the same participant" in told for told in results(study)["left_out"])

    def test_a_number_that_two_people_used_is_noted(self, study):
        save(study, 3, name="a")
        save(study, 3, name="b", participant="someone else")
        found = results(study)
        assert found["participants"] == 2 and "number 3 was used by 2 people" in found["notes"][0]

    def test_a_file_edited_by_hand_does_not_count_unless_asked(self, study):
        save(study, 1)
        given = save(study, 2)
        rating = next(a for a in given["answers"] if a["part"] == "naturalness" and a["value"] == 2)
        rating["value"] = 5
        (study[0] / "answers" / "2.json").write_text(json.dumps(given), encoding="utf-8")
        assert "changed after it was saved" in results(study)["left_out"][0]
        found = results(study, "--edited")
        assert found["participants"] == 2 and "is counted as asked" in found["notes"][0]

    def test_people_who_stopped_half_way(self, study):
        save(study, 1)
        save(study, 2, count=7)
        assert "stopped after 7 answers" in results(study)["left_out"][0]
        found = results(study, "--unfinished")
        assert found["participants"] == 2 and found["naturalness"][BEST]["count"] == 2

    def test_attention_checks_exclude(self, study):
        save(study, 1)
        folder, study_id, key = study
        given = answers(study_id, key, 2, rate, lambda item: BEST)
        checks = [a for a in given["answers"] if "wanted" in a]
        for a in checks[:2]:
            a["value"] = a["wanted"] % 4 + 1
        from aai_pack.aai_models.study.answers import checksum_of

        given["checksum"] = checksum_of(study_id, given["participant"], 2, given["answers"])
        (folder / "answers" / "2.json").write_text(json.dumps(given), encoding="utf-8")
        assert "2 of 3 attention checks failed" in results(study)["left_out"][0]
        assert results(study, "--failed", "0.9")["participants"] == 2

    def test_pilots_are_not_mixed_with_others(self, study):
        folder = study[0]
        save(study, 1)
        page.write_page(Record.open(folder), PageSettings(pilot=True))
        ((pilot, key),) = ((n, k) for n, k in page.read_key(folder)["studies"].items() if k["pilot"])
        save((folder, pilot, key), 2, name="pilot")
        assert results(study)["participants"] == 1
        assert cli.main(["collect", str(folder / "answers"), "--pilot"]) == 0
        assert json.loads((folder / "results_of_pilot" / collect.RESULTS).read_text())["participants"] == 1

    def test_an_empty_study_is_a_sentence(self, study, capsys):
        (study[0] / "answers").mkdir()
        assert cli.main(["collect", str(study[0] / "answers"), "--study", str(study[0])]) == 1
        assert cli.main(["collect", str(study[0] / "nothing.json")]) == 1
        assert "No answers can be counted" in (told := capsys.readouterr().err) and "nothing.json" in told

    def test_a_list_of_answers_of_one_device(self, study):
        both = [save(study, number) for number in (1, 2)]
        for path in (study[0] / "answers").glob("*.json"):
            path.unlink()
        content = {"format": "aai-study-answers-list", "version": 1, "answers": both}
        (study[0] / "answers" / "all.json").write_text(json.dumps(content), encoding="utf-8")
        assert results(study)["participants"] == 2


DAMAGES = {
    "no JSON": lambda given: "{",
    "something else": lambda given: {"hello": 1},
    "an array": lambda given: [1, 2],
    "deep nesting": lambda given: "[" * 100_000,
    "another study": lambda given: given | {"study": "abc"},
    "a study that is no text": lambda given: given | {"study": ["abc"]},
    "a newer version": lambda given: given | {"version": 2},
    "a number that is none": lambda given: given | {"number": "7; drop"},
    "answers that are none": lambda given: given | {"answers": "yes"},
    "too many answers": lambda given: given | {"answers": given["answers"] * 2},
    "answers in another order": lambda given: given | {"answers": given["answers"][::-1]},
    "an answer that is none": lambda given: given | {"answers": [None, *given["answers"][1:]]},
    "a rating of 9": lambda given: given | {"answers": [given["answers"][0] | {"value": 9}, *given["answers"][1:]]},
    "a rating of 2.5": lambda given: given | {"answers": [given["answers"][0] | {"value": 2.5}, *given["answers"][1:]]},
    "another picture": lambda given: (
        given | {"answers": [given["answers"][0] | {"picture": "x"}, *given["answers"][1:]]}
    ),
    "a chosen picture that was not shown": lambda given: (
        given | {"answers": [*given["answers"][:-1], given["answers"][-1] | {"picture": "x"}]}
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_named_and_the_others_count(study, name):
    save(study, 1)
    damaged = DAMAGES[name](save(study, 2))
    text = damaged if isinstance(damaged, str) else json.dumps(damaged)
    (study[0] / "answers" / "2.json").write_text(text, encoding="utf-8")
    found = results(study)
    assert found["participants"] == 1 and len(found["left_out"]) == 1 and found["left_out"][0].startswith("2.json: ")


def test_a_study_without_its_key_says_what_is_lost(study, capsys):
    save(study, 1)
    (study[0] / page.KEY).unlink()
    assert cli.main(["collect", str(study[0] / "answers")]) == 1
    (study[0] / page.KEY).write_text("{}", encoding="utf-8")
    assert cli.main(["collect", str(study[0] / "answers")]) == 1
    told = capsys.readouterr().err
    assert "which picture is by which method" in told and "Restore it from a copy" in told


def test_the_size_of_a_study(capsys):
    assert cli.main(["size", "--effect", "0.3"]) == 0
    assert "90 participants, better 92" in capsys.readouterr().out
    assert cli.main(["size", "--effect", "0"]) == 1


def test_languages_say_the_same_things():
    known = page.languages()
    assert next(iter(known)) == "en" and {"de", *locales.LANGUAGES} <= known.keys(), "those of the nodes, and German"
    script = (page.HERE / "web" / "page.js").read_text(encoding="utf-8")
    used = set(re.findall(r'(?:text|button)\("(\w+)"', script))
    for code, texts in known.items():
        assert texts.keys() == known["en"].keys(), code
        assert used <= texts.keys()
        for name, text in texts.items():
            assert {*re.findall(r"\{\w+\}", text)} == {*re.findall(r"\{\w+\}", known["en"][name])}, (code, name)
            assert text.strip(), (code, name)


def test_settings_that_cannot_be(tmp_path):
    record = comparison(tmp_path)
    with pytest.raises(StudyError, match="per-sound"):
        page.write_page(record, PageSettings(per_sound=0))
    with pytest.raises(StudyError, match="At least two"):
        page.write_page(record, PageSettings(methods=("plain word",)))
