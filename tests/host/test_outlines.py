"""The waveform's route: what it answers for sounds, and that it names and opens nothing outside ComfyUI's folders."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import wave

import numpy as np
import pytest

RATE = 8000


def write_sound(path, seconds: float, loud_from: float = 0.0) -> None:
    """A tone of 440 Hz, silent before `loud_from` seconds; the same minute again and again."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        minute = np.sin(2 * np.pi * 440 * np.arange(60 * RATE) / RATE) * 0.5 * 32767
        minute[: int(loud_from * RATE)] = 0
        for first in range(0, int(seconds * RATE), 60 * RATE):
            file.writeframes(minute[: int(seconds * RATE) - first].astype("<i2").tobytes())


@pytest.fixture(scope="module")
def ask(server):
    def ask(name: str, **more) -> tuple[int, dict]:
        query = urllib.parse.urlencode({"name": name, **more})
        try:
            with urllib.request.urlopen(f"{server.url}/aai/outline?{query}") as found:
                return found.status, json.load(found)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return ask


def test_a_sound(ask, workspace):
    write_sound(workspace.input / "outlined.wav", 20.0, loud_from=10.0)
    status, found = ask("outlined.wav")
    assert status == 200 and found["complete"] and found["seconds"] == pytest.approx(20.0, abs=0.01)
    peaks = np.array(found["peaks"])
    half = len(peaks) // 2
    assert len(peaks) == 200 and peaks[:half].max() == 0 and peaks[half + 1 :] == pytest.approx(0.5, abs=0.01)
    assert ask("outlined.wav", start=0, duration=5)[1]["lufs"] is None
    # 440 Hz at -6.02 dBFS reads -9.7 LUFS: -3.01 for the full-scale sine at 997 Hz, less what the filter takes at 440 Hz.
    assert ask("outlined.wav", start=12, duration=5)[1]["lufs"] == pytest.approx(-9.7, abs=0.3)
    assert ask("outlined.wav", start="x", duration="-1")[0] == 200
    (workspace.input / "sub").mkdir(exist_ok=True)
    write_sound(workspace.input / "sub" / "deep.wav", 1.0)
    assert ask("sub/deep.wav")[1]["seconds"] == pytest.approx(1.0, abs=0.01)


def test_a_file_that_changes_and_one_that_vanishes(ask, workspace):
    path = workspace.input / "changing.wav"
    write_sound(path, 2.0)
    assert ask("changing.wav")[1]["seconds"] == 2.0
    write_sound(path, 3.0)
    assert ask("changing.wav")[1]["seconds"] == 3.0
    path.unlink()
    assert ask("changing.wav")[0] == 404


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../outside.wav", 403),
        ("sub/../../outside.wav", 403),
        ("a\0b.wav", 403),
        ("/etc/passwd", 403),
        ("link.wav", 403),
        ("linked/outside.wav", 403),
        ("../outside.wav [output]", 403),
        ("gone.wav", 404),
        ("", 404),
        ("x" * 5000, 404),
        ("no_sound.txt", 200),
        ("empty.wav", 200),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_refused(ask, workspace, name, expected):
    outside = workspace.root / "outside.wav"
    if not outside.exists():
        write_sound(outside, 1.0)
        os.symlink(outside, workspace.input / "link.wav")
        os.symlink(workspace.root, workspace.input / "linked")
        (workspace.input / "no_sound.txt").write_text("words")
        (workspace.input / "empty.wav").write_bytes(b"")
    status, found = ask(name)
    assert status == expected and set(found) == {"error"}
    assert str(workspace.root) not in found["error"] and "/" not in found["error"].replace("./", "")


def test_three_hours_do_not_hold_up_the_server(ask, server, workspace):
    write_sound(workspace.input / "long.wav", 3 * 3600)
    waits, deadline = [], time.monotonic() + 90
    while True:
        began = time.monotonic()
        status, found = ask("long.wav")
        waits.append(time.monotonic() - began)
        assert status == 200 and len(found["peaks"]) <= 600
        if found["complete"] or time.monotonic() > deadline:
            break
    assert found["complete"] and found["seconds"] == pytest.approx(3 * 3600, abs=0.1)
    assert max(waits) < 3, "an answer never waits for the whole file"
    (workspace.input / "long.wav").unlink()
