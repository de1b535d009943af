"""Batches of photos on small models."""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import zlib
from pathlib import Path

import comfy.ops
import folder_paths
import numpy as np
import psutil
import pytest
import torch
from aai_pack.aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_pack.aai_models.errors import EditError
from aai_pack.devtools import in_process
from aai_pack.nodes.host.hear import encoders
from aai_pack.nodes.host.inject import batch_words, sound_files
from aai_pack.nodes.host.inject import stylize as batches
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import alone, word
from aai_pack.tests.sounds import write_encoded
from PIL import Image

CONFIG = {
    "source_prompt": "a photo",
    "target_prompt": "a photo in the style of <A*>",
    "negative_prompt": "",
    "method": "virtual",
    "cross_end": 0.6,
    "self_end": 0.25,
    "steps": 2,
    "cfg": 3.0,
    "sampler": "euler",
    "scheduler": "normal",
    "denoise": 0.6,
    "seed": 0,
    "longest_side": 64,
}


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (48, 40)), ("a.jpg", (80, 64)), ("tiny.png", (1, 1))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 65535, (32, 32), dtype=np.uint16)).save(folder / "deep.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 90)).save(folder / "alpha.png")
    (folder / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return folder


def run(models, photos, output: str, plan_only=False, scales="1", tokens=None, recordings=None, **changes):
    with torch.inference_mode():
        config = batches.StylizeConfig(**{**CONFIG, **changes})
        tokens = [word()] if tokens is None else tokens
        words = batch_words.name_words(tokens, [], recordings or {})
        return batches.stylize(*models, words, str(photos), scales, output, plan_only, config)


def made(output: str) -> dict[str, float]:
    return {p.name: p.stat().st_mtime_ns for p in (Path(folder_paths.get_output_directory()) / output).glob("*.png")}


def test_a_batch_makes_what_it_can_and_lists_the_rest(models, photos):
    batch = run(models, photos, "one", scales="0.5, 1")
    assert set(made("one")) == {
        f"{name}__sound-1__x{scale}.png" for name in ("a_png", "a_jpg", "deep", "alpha") for scale in ("0.50", "1.00")
    }
    assert {name.split("__")[0] for name in batch.failures} == {"tiny", "corrupt"}
    assert "12 pictures, 8 finished, 4 to do" in batch.report and "failed: tiny" in batch.report
    with Image.open(Path(folder_paths.get_output_directory()) / "one" / "a_png__sound-1__x0.50.png") as picture:
        assert json.loads(picture.text["aai"]) == {"sound": "sound-1", "scale": 0.5, "photo": "a.png"}
        assert picture.size == (40, 48)


def test_one_photo_never_stops_the_rest(models, tmp_path, monkeypatch):
    """One that claims 60000 x 60000 pixels, one for which the memory does not suffice, one that is well."""
    for name in ("large", "well"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(bomb)
    encode, seen = batches.photo.encode_photo, []

    def encode_photo(vae, image):
        seen.append(image)
        if len(seen) == 1:
            raise torch.OutOfMemoryError("out of memory")
        return encode(vae, image)

    monkeypatch.setattr(batches.photo, "encode_photo", encode_photo)
    batch = run(models, tmp_path, "never-stops")
    assert set(made("never-stops")) == {"well__sound-1__x1.00.png"}
    assert batch.failures["large__sound-1__x1.00.png"].startswith("Out of memory (out of memory). Lower ")
    assert "save it as PNG or JPG" in batch.failures["bomb__sound-1__x1.00.png"]


def test_a_plan_makes_nothing(models, photos):
    assert "6 pictures, 0 finished, 6 to do" in run(models, photos, "plan", plan_only=True).report
    assert not made("plan")


def test_a_batch_goes_on_with_what_is_missing(models, photos):
    run(models, photos, "again")
    before = made("again")
    gone = Path(folder_paths.get_output_directory()) / "again" / "alpha__sound-1__x1.00.png"
    content = gone.read_bytes()
    gone.unlink()
    run(models, photos, "again")
    after = made("again")
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {gone.name}
    with Image.open(gone) as new:
        new.load()
    assert gone.read_bytes() == content


@pytest.mark.parametrize("stop_at", [1, 3, 6])
def test_a_cancelled_batch_keeps_what_it_finished(models, photos, stop_at, monkeypatch):
    import comfy.model_management as mm

    calls, plain = [], alone(models, "a photo")
    check = mm.throw_exception_if_processing_interrupted

    def cancel_at():
        calls.append(1)
        if len(calls) == stop_at:
            mm.interrupt_current_processing(True)
        check()

    monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", cancel_at)
    with pytest.raises(mm.InterruptProcessingException):
        run(models, photos, f"cancel-{stop_at}")
    monkeypatch.undo()
    finished = made(f"cancel-{stop_at}")
    run(models, photos, f"cancel-{stop_at}")
    after = made(f"cancel-{stop_at}")
    assert len(after) == 4 and all(after[name] == time for name, time in finished.items())
    assert torch.equal(plain, alone(models, "a photo"))


def test_scales_and_sounds_change_the_picture(models, photos):
    run(models, photos, "many", scales="0, 1, 2", tokens=[word(), word(1)])
    folder = Path(folder_paths.get_output_directory()) / "many"
    shown = [np.asarray(Image.open(path)) for path in sorted(folder.glob("a_png__*.png"))]
    assert len(shown) == 6
    assert len({picture.tobytes() for picture in shown}) > 3


@pytest.mark.parametrize("output", ["", "..", "../elsewhere", "/somewhere"])
def test_output_stays_below_the_hosts_folder(models, photos, output):
    with pytest.raises(EditError, match="below ComfyUI's output folder"):
        run(models, photos, output)


def test_refusals(models, photos, tmp_path):
    with pytest.raises(EditError, match="no sound"):
        run(models, photos, "none", tokens=[])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EditError, match="0 photos"):
        run(models, tmp_path / "empty", "none")
    with pytest.raises(ValueError, match="There is no folder"):
        run(models, tmp_path / "missing", "none")


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_a_long_batch_needs_no_more_memory(models, tmp_path, count, monkeypatch):
    """What the process holds after a third of the pictures is what it holds at the end."""
    rng = np.random.default_rng(1)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{number:03}.png")
    process, held = psutil.Process(), []

    def note(text):
        gc.collect()
        held.append(process.memory_info().rss / 2**20)

    monkeypatch.setattr(batches, "tell_progress", note)
    run(models, tmp_path, f"long-{count}", steps=1, longest_side=64)
    assert len(made(f"long-{count}")) == count
    assert held[-1] - held[count // 3] < 60, "megabytes"


def test_a_disk_that_fails_in_the_middle(models, photos, monkeypatch):
    """The folder becomes unwritable after the second picture; what is finished stays and the batch goes on later."""
    folder = Path(folder_paths.get_output_directory()) / "failing"
    aside, told = folder.with_name("failing-aside"), []

    def break_the_disk(text):
        told.append(text)
        if len(made("failing")) == 2:
            folder.rename(aside)
            folder.write_text("no folder")

    monkeypatch.setattr(batches, "tell_progress", break_the_disk)
    with pytest.raises(EditError, match="Free some space"):
        run(models, photos, "failing")
    monkeypatch.undo()
    folder.unlink()
    aside.rename(folder)
    finished = made("failing")
    assert len(finished) == 2
    run(models, photos, "failing")
    after = made("failing")
    assert len(after) == 4 and all(after[name] == time for name, time in finished.items())


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = CAVTMAEConfig(dim=768, depth=1, mlp_dim=32, image_tokens=0)
    with in_process.whole_weights():
        model = CAVTMAE(config, operations=comfy.ops.manual_cast).eval()
    for parameter in model.parameters():  # the host's layers come with whatever lies in memory
        torch.nn.init.normal_(parameter, std=0.1)
    hosted = encoders.HostedCAVT(model, "small", "small")
    hosted.aligned_with = "clip_l"
    return hosted


class TestFolderOfSounds:
    @pytest.fixture
    def sounds(self, tmp_path):
        folder = tmp_path / "sounds"
        folder.mkdir()
        generator = torch.Generator().manual_seed(0)
        for name in ("rain.wav", "storm.wav", "storm.flac"):
            write_encoded(folder / name, 0.1 * torch.randn(1, 16000, generator=generator), 16000, name[-4:].strip("."))
        (folder / "broken.mp3").write_bytes(b"no sound")
        (folder / "notes.txt").write_text("no sound either")
        return folder

    def test_each_recording_becomes_a_word(self, models, photos, sounds, encoder):
        words = sound_files.sound_files(str(sounds), encoder, models[1], 100)
        assert list(words) == ["broken", "rain", "storm.flac", "storm.wav"]
        batch = run(models, photos, "heard", tokens=[], recordings=words)
        heard = {name.split("__")[1] for name in made("heard")}
        assert heard == {"rain", "storm_flac", "storm_wav"}
        assert sum("broken" in name for name in batch.failures) == 6, "each photo with the broken sound"
        assert "broken.mp3" in next(text for name, text in batch.failures.items() if name.startswith("alpha__broken"))

    def test_a_changed_recording_is_made_again(self, sounds, encoder):
        words = sound_files.sound_files(str(sounds), encoder, None)
        before = sound_files.sounds_fingerprint(str(sounds))
        first = words["rain"].identity()
        assert first == words["rain"].identity() != words["storm.wav"].identity()
        (sounds / "rain.wav").write_bytes((sounds / "storm.wav").read_bytes() + b" ")
        assert words["rain"].identity() != first and sound_files.sounds_fingerprint(str(sounds)) != before

    def test_refusals(self, tmp_path, encoder, sounds):
        (tmp_path / "empty").mkdir()
        with pytest.raises(EditError, match="holds no recording"):
            sound_files.sound_files(str(tmp_path / "empty"), encoder, None)
        with pytest.raises(EditError, match="no audio encoder"):
            sound_files.sound_files(str(sounds), None, None)
        with pytest.raises(ValueError, match="There is no folder"):
            sound_files.sound_files("missing", encoder, None)


def batch_graph(stand_ins, output: str) -> dict:
    """A batch over the API: no browser, a saved word, every photo of the folder `photos`."""
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "folder": "photos", "output": output, "scales": "1"}
    inputs |= {"plan_only": False, "saved_words": "batch-word", "sampler_name": CONFIG["sampler"]}
    inputs |= {key: value for key, value in CONFIG.items() if key != "sampler"}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}},
        "2": {"class_type": "AAI_BatchStylize", "inputs": inputs},
    }


def test_a_batch_whose_host_is_killed_goes_on(host, recordings):
    """kill -9 after the third of eight pictures: the next host makes the others, and leaves the finished ones alone."""
    from aai_pack.devtools.client import Client
    from aai_pack.devtools.server import Server, Workspace
    from aai_pack.devtools.stand_in import install

    with Workspace() as workspace:
        stand_ins = install(workspace, recordings)
        word().save(workspace.models / "embeddings" / "batch-word.safetensors")
        folder, made_in = workspace.input / "photos", workspace.output / "killed"
        folder.mkdir()
        rng = np.random.default_rng(2)
        for number in range(8):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        graph = batch_graph(stand_ins, "killed")
        with Server(host, workspace) as server:

            def kill(event) -> bool:
                data = event["data"]
                if event["type"] == "progress" and data.get("node") == "2" and data["value"] >= 3:
                    os.kill(server.pid, signal.SIGKILL)
                return False

            with pytest.raises(Exception):  # noqa: B017 (whatever a vanished server raises)
                Client(server.url).run(graph, on_event=kill)
        finished = {path.name: path.stat().st_mtime_ns for path in made_in.glob("*.png")}
        recorded = json.loads((made_in / "manifest.json").read_text())["pictures"]
        assert 3 <= len(finished) < 8 and set(recorded) <= set(finished)
        with Server(host, workspace) as server:
            run = Client(server.url).run(graph)
        assert run.status == "success", run.message
        assert "8 pictures, 8 finished, 0 to do" in run.outputs["2"]["text"][0]
        after = {path.name: path.stat().st_mtime_ns for path in made_in.glob("*.png")}
        assert len(after) == 8 and all(after[name] == finished[name] for name in recorded)
