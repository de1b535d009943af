"""Plans and records of a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aai_pack.aai_models.errors import EditError
from aai_pack.aai_models.inject.batch import MANIFEST, Manifest, parse_scales, plan_jobs, table


def jobs(photos=("a.png", "b.png"), sounds=("rain", "storm"), scales=(0.5, 1.0), **settings):
    return plan_jobs(
        {Path(p): f"content of {p}" for p in photos}, {s: f"word {s}" for s in sounds}, list(scales), settings
    )


def test_every_photo_with_every_sound_at_every_scale():
    planned = jobs()
    assert len(planned) == 8 == len({job.file for job in planned}) == len({job.identity for job in planned})
    assert planned[0].file == "a__rain__x0.50.png"


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        (("x/a.png", "x/a.jpg"), ["a_png", "a_jpg"]),
        (("x/a.png", "y/a.png"), ["a_png", "a_png-2"]),
        (("x/a.png", "x/A.png"), ["a_png", "A_png-2"]),
        (("x/../../etc.png", "x/né e?.png"), ["etc", "né_e"]),
        (("x/___.png",), ["unnamed"]),
        (("x/" + "long" * 40 + ".png",), [("long" * 40)[:60]]),
    ],
)
def test_names_say_what_they_are_and_differ(photos, expected):
    planned = jobs(photos, ("rain",), (1.0,))
    assert [job.file for job in planned] == [f"{name}__rain__x1.00.png" for name in expected]


def test_sounds_of_one_plain_name_make_files_of_their_own():
    planned = jobs(("a.png",), ("a b", "a_b", "A_B"), (1.0,))
    assert [job.file for job in planned] == ["a__a_b__x1.00.png", "a__a_b-2__x1.00.png", "a__A_B-3__x1.00.png"]


def test_identities_change_with_what_the_picture_depends_on():
    plain = jobs(cfg=7)[0].identity
    assert plain == jobs(cfg=7)[0].identity != jobs(cfg=8)[0].identity


def test_a_record_survives_and_forgets_removed_files(tmp_path):
    first, second = jobs()[:2]
    manifest = Manifest(tmp_path)
    for job in (first, second):
        (tmp_path / job.file).write_bytes(b"picture")
        manifest.add(job)
    assert Manifest(tmp_path).finished() == {first.identity, second.identity}
    (tmp_path / first.file).unlink()
    assert Manifest(tmp_path).finished() == {second.identity}
    assert set(json.loads((tmp_path / MANIFEST).read_text())["pictures"]) == {first.file, second.file}
    assert not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pictures": 3}', '{"pictures": {"a": 3}}'])
def test_a_damaged_record_is_no_record(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    assert Manifest(tmp_path).finished() == set()


def test_a_disk_that_cannot_be_written(tmp_path):
    manifest = Manifest(tmp_path / "file" / "below")
    (tmp_path / "file").write_text("")
    with pytest.raises(EditError, match="manifest"):
        manifest.add(jobs()[0])


def test_tables_tell_the_state():
    planned = jobs()
    shown = table(planned, {planned[0].identity})
    assert shown.endswith("8 pictures, 1 finished, 7 to do") and shown.count("to do") == 8


@pytest.mark.parametrize(("text", "expected"), [("1", [1.0]), ("0.5, 1,1.5", [0.5, 1.0, 1.5]), ("2 2;0", [2.0, 0.0])])
def test_scales(text, expected):
    assert parse_scales(text) == expected


@pytest.mark.parametrize("text", ["", "x", "3", "-1", "nan", "1, 2.5"])
def test_scales_that_are_none(text):
    with pytest.raises(EditError, match="from 0 to 2"):
        parse_scales(text)


@pytest.mark.parametrize("what", [{"photos": ()}, {"sounds": ()}, {"photos": [f"{n}" for n in range(60000)]}])
def test_empty_and_endless_batches(what):
    with pytest.raises(EditError, match="A batch makes"):
        jobs(**what)
