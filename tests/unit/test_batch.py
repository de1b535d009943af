"""Plans and records of a batch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aai_pack.aai_models.errors import EditError
from aai_pack.aai_models.inject.batch import Job, natural_key, parse_scales, plan_jobs, scale_text, table
from aai_pack.aai_models.inject.manifest import MANIFEST, NOTE, Manifest
from PIL import Image, PngImagePlugin


def jobs(photos=("a.png", "b.png"), sounds=("rain", "storm"), scales=(0.5, 1.0), origins=None, **settings):
    return plan_jobs(
        {Path(p): f"content of {p}" for p in photos}, {s: f"word {s}" for s in sounds}, list(scales), settings, origins
    )


def write(folder: Path, manifest: Manifest, job: Job, content: bytes = b"picture") -> Job:
    job = manifest.claim(job)
    (folder / job.file).write_bytes(content)
    manifest.add(job)
    return job


def test_every_photo_with_every_sound_at_every_scale():
    planned = jobs()
    assert len(planned) == 8 == len({job.file for job in planned}) == len({job.identity for job in planned})
    assert planned[0].file == "a__rain__x0.50.png"


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        (("x/a.png", "x/a.jpg"), ["a_png", "a_jpg"]),
        (("x/a.png", "y/a.png"), ["a_png", "a_png-2"]),
        (("x/a.png", "y/a.png", "z/a.png", "z/a_png-2.png"), ["a_png", "a_png-2", "a_png-3", "a_png-2-2"]),
        (("x/a.png", "x/A.png"), ["a_png", "A_png-2"]),
        (("x/../../etc.png", "x/né e?.png"), ["etc", "né_e"]),
        (("x/___.png",), ["unnamed"]),
        (("x/" + "long" * 40 + ".png",), [("long" * 40)[:60]]),
        (("x/" + "雨" * 60 + ".png",), ["雨" * 30]),
    ],
)
def test_names_say_what_they_are_and_differ(photos, expected):
    planned = jobs(photos, ("rain",), (1.0,))
    assert [job.file for job in planned] == [f"{name}__rain__x1.00.png" for name in expected]


def test_the_longest_names_fit_on_a_disk():
    (job,) = jobs(("雨" * 80 + ".png",), ("é" * 200,), (1.0000000000000002,))
    assert len(job.file.encode()) + len("." + "0" * 32 + "-.partial") <= 255


def test_sounds_of_one_plain_name_make_files_of_their_own():
    planned = jobs(("a.png",), ("a b", "a_b", "A_B"), (1.0,))
    assert [job.file for job in planned] == ["a__a_b__x1.00.png", "a__a_b-2__x1.00.png", "a__A_B-3__x1.00.png"]


def test_scales_that_differ_have_files_that_differ():
    scales = parse_scales("1, 1.001, 1.004, 0.12, 0.125, 1e-7, -0, 0, 2")
    assert [scale_text(s) for s in scales] == ["1.00", "1.001", "1.004", "0.12", "0.125", "1e-07", "0.00", "2.00"]
    planned = jobs(("a.png",), ("rain",), scales)
    assert len({job.file for job in planned}) == len(planned) == 8


def test_identities_change_with_what_the_picture_depends_on():
    plain = jobs(cfg=7)[0]
    assert plain == jobs(cfg=7)[0]
    assert plain.identity != jobs(cfg=8)[0].identity and plain.place == jobs(cfg=8)[0].place
    assert plain.place != jobs(("elsewhere/a.png",))[0].place
    assert plain.place != jobs(origins={"rain": "another folder"})[0].place


def test_people_count_in_natural_order():
    names = ["a/10.png", "a/2.png", "a/1.png", "B/1.png", "IMG_9.png", "img_10.png", "img_009b.png", "x²1.png"]
    ordered = sorted(map(Path, names), key=natural_key)
    assert [path.as_posix() for path in ordered] == [
        *("a/1.png", "a/2.png", "a/10.png", "B/1.png", "IMG_9.png", "img_009b.png", "img_10.png", "x²1.png")
    ]


class TestRecord:
    def test_it_survives_and_forgets_removed_files(self, tmp_path):
        first, second = jobs()[:2]
        manifest = Manifest(tmp_path)
        for job in (first, second):
            write(tmp_path, manifest, job)
        again = Manifest(tmp_path)
        assert again.place([first, second]) == [first, second] and again.finished == {first.file, second.file}
        (tmp_path / first.file).unlink()
        again = Manifest(tmp_path)
        assert again.place([first, second]) == [first, second] and again.finished == {second.file}
        assert set(json.loads((tmp_path / MANIFEST).read_text())["pictures"]) == {first.file, second.file}
        assert not list(tmp_path.glob(".*partial"))

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"pictures": 3}', '{"pictures": {"a": 3}}', '{"name": "a site"}'])
    def test_a_damaged_or_foreign_record_is_none_and_stays(self, tmp_path, text):
        (tmp_path / MANIFEST).write_text(text)
        manifest, job = Manifest(tmp_path), jobs()[0]
        assert manifest.place([job]) == [job] and manifest.finished == set()
        write(tmp_path, manifest, job)
        assert (tmp_path / MANIFEST).read_text() == text
        again = Manifest(tmp_path)
        again.place([job])
        assert again.finished == {job.file}

    def test_a_record_of_version_0_1_0(self, tmp_path):
        """It says which files are a batch's, and not of which folder: they stay, and new pictures have new names."""
        job = jobs()[0]
        (tmp_path / job.file).write_bytes(b"old picture")
        entry = {"photo": "a.png", "sound": "rain", "scale": 0.5, "identity": "0" * 64}
        (tmp_path / MANIFEST).write_text(json.dumps({"pictures": {job.file: entry, "../../outside.png": entry}}))
        manifest = Manifest(tmp_path)
        (placed,) = manifest.place([job])
        assert placed.file == "a-2__rain__x0.50.png" and not manifest.finished
        write(tmp_path, manifest, placed)
        assert (tmp_path / job.file).read_bytes() == b"old picture"
        assert json.loads((tmp_path / MANIFEST).read_text())["pictures"][job.file] == entry

    def test_foreign_files_stay_also_those_that_come_later(self, tmp_path):
        first, second = jobs()[:2]
        (tmp_path / first.file.upper()).write_bytes(b"foreign")
        manifest = Manifest(tmp_path)
        placed = manifest.place([first, second])
        assert [job.file for job in placed] == ["a-2__rain__x0.50.png", second.file]
        (tmp_path / second.file).write_bytes(b"foreign")
        written = [write(tmp_path, manifest, job) for job in placed]
        assert [job.file for job in written] == ["a-2__rain__x0.50.png", "a-2__rain__x1.00.png"]
        assert (tmp_path / second.file).read_bytes() == b"foreign"
        again = Manifest(tmp_path)
        assert again.place([first, second]) == written and again.finished == {job.file for job in written}

    def test_new_settings_write_over_what_the_batch_wrote_and_nobody_changed(self, tmp_path):
        before, after = jobs(cfg=7)[:3], jobs(cfg=8)[:3]
        manifest = Manifest(tmp_path)
        for job in before:
            write(tmp_path, manifest, job)
        retouched, copied = tmp_path / before[0].file, tmp_path / before[1].file
        retouched.write_bytes(b"retouched by hand")
        os.utime(copied, (1, 1))  # a copy from a backup: the same content at another time
        same = Manifest(tmp_path)
        same.place(before)
        assert len(same.finished) == 3, "a picture that was retouched is not made anew without a reason"
        manifest = Manifest(tmp_path)
        placed = manifest.place(after)
        assert [job.file for job in placed] == ["a-2__rain__x0.50.png", before[1].file, before[2].file]
        for job in placed:
            write(tmp_path, manifest, job, b"new")
        assert retouched.read_bytes() == b"retouched by hand" and copied.read_bytes() == b"new"
        again = Manifest(tmp_path)
        assert again.place(after) == placed and len(again.finished) == 3

    def test_equal_photos_and_words_have_a_file_each(self, tmp_path):
        planned = plan_jobs({Path("x/a.png"): "same", Path("y/a.png"): "same"}, {"one": "w", "two": "w"}, [1.0], {})
        manifest = Manifest(tmp_path)
        placed = manifest.place(planned)
        write(tmp_path, manifest, placed[0])
        again = Manifest(tmp_path)
        again.place(planned)
        assert len({job.file for job in placed}) == 4 and again.finished == {placed[0].file}

    def test_a_picture_that_was_written_before_a_kill_is_known_again(self, tmp_path):
        job, other = jobs(cfg=7)[0], jobs(cfg=8)[0]
        notes = PngImagePlugin.PngInfo()
        notes.add_text(NOTE, job.identity)
        Image.new("RGB", (8, 8)).save(tmp_path / job.file, pnginfo=notes)
        manifest = Manifest(tmp_path)
        assert manifest.place([job]) == [job] and manifest.finished == {job.file}
        (placed,) = Manifest(tmp_path).place([other])
        assert placed.file == "a-2__rain__x0.50.png"

    def test_a_disk_that_cannot_be_written(self, tmp_path):
        manifest = Manifest(tmp_path / "out")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / jobs()[0].file).write_bytes(b"picture")
        (tmp_path / "out" / MANIFEST).mkdir()
        with pytest.raises(EditError, match="manifest"):
            manifest.add(jobs()[0])

    def test_a_record_that_cannot_be_read_is_not_replaced(self, tmp_path):
        (tmp_path / MANIFEST).mkdir()
        with pytest.raises(EditError, match="cannot be read"):
            Manifest(tmp_path)

    def test_long_records_are_not_written_after_each_picture(self, tmp_path, monkeypatch):
        planned = jobs([f"{n}.png" for n in range(1500)], ("rain",), (1.0,))
        manifest, written = Manifest(tmp_path), []
        save = Manifest.save
        monkeypatch.setattr(Manifest, "save", lambda self: (written.append(self._is_saved), save(self)))
        manifest._cost = 1000.0  # seconds: of a slow disk
        for job in planned[:1001]:
            manifest._entries[job.file] = {"identity": job.identity, "place": job.place}
        for job in planned[1001:]:
            write(tmp_path, manifest, job)
        assert len(written) <= 1
        manifest.save()
        again = Manifest(tmp_path)
        again.place(planned)
        assert again.finished == {job.file for job in planned[1001:]}


def seconds_to_plan(count: int, folder: Path) -> float:
    """Half of the photos share a name in other folders, and a batch of others wrote those names already."""
    photos = {Path(f"/photos/{n % 7}/{n // 2}.png"): f"{n}" for n in range(count)}
    started = time.perf_counter()
    planned = plan_jobs(photos, {"rain": "word"}, [1.0], {"cfg": 7})
    manifest = Manifest(folder)
    placed = manifest.place(planned)
    table(placed, manifest.finished)
    took = time.perf_counter() - started
    assert len({job.file for job in placed}) == len(photos)
    return took


def test_planning_takes_linear_time(tmp_path):
    entry = {"identity": "x", "place": "y"}
    (tmp_path / MANIFEST).write_text(
        json.dumps({"pictures": {f"{n}_png__rain__x1.00.png": entry for n in range(5000)}})
    )
    small, large = seconds_to_plan(2000, tmp_path), seconds_to_plan(20000, tmp_path)
    assert large < 40 * max(small, 0.02), f"{small:.2f} s for 2,000 photos, {large:.2f} s for 20,000"
    assert large < 6


def test_many_photos_of_one_name_are_planned_in_linear_time(tmp_path):
    photos = [f"/photos/{n}/IMG_0001.jpg" for n in range(20000)]
    started = time.perf_counter()
    placed = Manifest(tmp_path).place(jobs(photos, ("rain",), (1.0,)))
    assert time.perf_counter() - started < 6 and len({job.file for job in placed}) == 20000


def test_tables_tell_the_state():
    planned = jobs()
    shown = table(planned, {planned[0].file})
    assert shown.endswith("8 pictures, 1 finished, 7 to do") and shown.count("to do") == 8
    many = [replace(planned[0], file=f"{n}.png") for n in range(2500)]
    lines = table(many, {"0.png", "2400.png"}).splitlines()
    assert lines[-2:] == ["... and 1500 more", "2500 pictures, 2 finished, 2498 to do"] and len(lines) == 1003


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
