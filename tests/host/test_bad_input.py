"""Bad input through the HTTP API: one or two sentences with a remedy, no traceback from deep inside, the server alive."""

from __future__ import annotations

import numpy as np
import pytest
from aai_pack.tests.host import graphs
from aai_pack.tests.sounds import write_float_wav, write_long_wav, write_wav

DEEP = ("av/", "torch/", "numpy/", "site-packages")


def noise(count: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (count, channels))


def assert_readable(run, *words: str) -> None:
    """A refusal or a node error that a person can act on."""
    assert run.status in ("error", "rejected"), run.status
    message = run.message
    for word in words:
        assert word in message, message
    assert 10 < len(message) < 700 and "Traceback" not in message
    frames = [line for line in run.error.get("traceback", []) if line.lstrip().startswith("File")]
    if frames:
        assert not any(part in frames[-1] for part in DEEP), f"raised deep inside: {frames[-1]}"


@pytest.fixture
def run_sound(client, stand_ins, workspace, request):
    """Write a sound file, run the job on it, and show afterwards that the server still works."""

    def run(name: str, write=None, **changes):
        if write is not None:
            write(workspace.input / name)
        return client.run(graphs.train(stand_ins, sound=name, **changes))

    yield run
    after = client.run(graphs.train(stand_ins, seed=hash(request.node.name) % 2**31))
    assert after.status == "success", after.message


class TestSounds:
    def test_missing(self, run_sound):
        assert_readable(run_sound("gone.wav"), "no file 'gone.wav'", "Upload")

    def test_empty(self, run_sound):
        assert_readable(run_sound("empty.wav", lambda p: p.write_bytes(b"")), "empty", "Upload")

    def test_text_renamed(self, run_sound):
        assert_readable(run_sound("text.wav", lambda p: p.write_text("not a sound " * 50)), "text.wav")

    def test_picture_renamed(self, run_sound, workspace, stand_ins):
        data = (workspace.input / stand_ins.references[0]).read_bytes()
        assert_readable(run_sound("picture.mp3", lambda p: p.write_bytes(data)), "picture.mp3")

    def test_no_samples(self, run_sound):
        assert_readable(run_sound("none.wav", lambda p: write_wav(p, np.zeros(0))), "none.wav")

    def test_one_sample(self, run_sound):
        assert_readable(run_sound("one.wav", lambda p: write_wav(p, np.full(1, 0.5))), "25 ms", "longer")

    def test_samples_that_are_not_numbers(self, run_sound):
        samples = noise(16000)[:, 0]
        samples[100:200] = np.nan
        assert_readable(run_sound("nan.wav", lambda p: write_float_wav(p, samples)), "100")

    def test_silence(self, run_sound):
        assert_readable(run_sound("silence.wav", lambda p: write_wav(p, np.zeros(16000))), "silent")

    def test_start_beyond_the_end(self, run_sound):
        assert_readable(run_sound("short.wav", lambda p: write_wav(p, noise(16000)), start=100.0), "100")

    @pytest.mark.parametrize(
        "name", ["../secret.wav", "sub/../../secret.wav", "/etc/passwd", "..\\secret.wav", "a.wav/../../b"]
    )
    def test_names_that_leave_the_folder(self, run_sound, workspace, name):
        write_wav(workspace.root / "secret.wav", noise(16000))
        assert_readable(run_sound(name))

    def test_eight_channels(self, run_sound):
        assert run_sound("eight.wav", lambda p: write_wav(p, noise(16000, 8))).status == "success"

    def test_192_kilohertz(self, run_sound):
        assert run_sound("fast.wav", lambda p: write_wav(p, noise(192000), 192000)).status == "success"

    def test_an_hour_is_not_held_in_memory(self, run_sound, server):
        rate = 48000

        def write(path):
            write_long_wav(path, 3600, rate, 1800, noise(5 * rate)[:, 0])

        run_sound("warm.wav", lambda p: write_wav(p, noise(5 * rate), rate))
        before = resident_megabytes(server.pid)
        run = run_sound("hour.wav", write, start=1800.0, duration=5.0)
        assert run.status == "success", run.message
        assert resident_megabytes(server.pid) - before < 200  # an hour would be 690 MB


def resident_megabytes(pid: int) -> float:
    import psutil

    return psutil.Process(pid).memory_info().rss / 2**20


class TestCheckpoints:
    @pytest.mark.parametrize("kind", ["diffusion", "text", "empty", "code"])
    def test_not_cavt(self, client, stand_ins, workspace, kind):
        path = workspace.models / "cavt_mae" / f"{kind}.pth"
        if kind == "diffusion":
            path.write_bytes((workspace.models / "checkpoints" / stand_ins.checkpoint).read_bytes())
        elif kind == "code":
            # A pickle that would create a file if it were run.
            marker = workspace.root / "was_run"
            path.write_bytes(f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode())
        else:
            path.write_bytes(b"" if kind == "empty" else b"hello")
        client.get("/object_info/AAI_LoadCAVT")
        graph = graphs.train(stand_ins)
        graph["12"]["inputs"]["checkpoint"] = path.name
        run = client.run(graph)
        assert_readable(run, f"{kind}.pth" if kind != "diffusion" else "not a CAVT-MAE checkpoint")
        assert not (workspace.root / "was_run").exists()

    def test_gone(self, client, stand_ins):
        graph = graphs.train(stand_ins)
        graph["12"]["inputs"]["checkpoint"] = "gone.safetensors"
        assert_readable(client.run(graph), "gone.safetensors")


class TestReferencesAndNames:
    def test_no_pictures(self, client, stand_ins):
        graph = graphs.train(stand_ins)
        del graph["20"]["inputs"]["references"]
        assert_readable(client.run(graph), "references")

    @pytest.mark.parametrize(
        "name", ["a/b", "..", "../up", "", " ", "a\\b", "nul", "x" * 100, "two words", "a\nb", "<A*>"]
    )
    def test_token_names(self, client, stand_ins, name):
        assert_readable(client.run(graphs.train(stand_ins, name=name)), "cannot be a token's name", "Choose another")

    def test_taken_name(self, client, stand_ins, workspace):
        graph = graphs.train(stand_ins, seed=61, name="taken")
        assert client.run(graph).status == "success"
        other = graphs.train(stand_ins, seed=62, name="taken")
        other["21"]["inputs"]["if_exists"] = "stop"
        assert_readable(client.run(other), "already an embedding named taken")
        other["21"]["inputs"]["if_exists"] = "number"
        assert client.run(other).outputs["21"]["text"] == ["embedding:taken-2"]
        assert {p.stem for p in (workspace.models / "embeddings").glob("taken*")} == {"taken", "taken-2"}

    def test_a_folder_that_cannot_be_written(self, client, stand_ins, workspace):
        folder = workspace.models / "embeddings"
        aside = folder.with_name("aside")
        folder.rename(aside)
        folder.write_text("a file where the folder should be")
        try:
            assert_readable(client.run(graphs.train(stand_ins, name="nowhere")), "Could not write", "Free some space")
        finally:
            folder.unlink()
            aside.rename(folder)

    def test_a_word_without_a_sound(self, client, stand_ins):
        graph = graphs.train(stand_ins)
        graph["30"] = {
            "class_type": "AAI_AudioTokenConditioning",
            "inputs": {"clip": ["14", 1], "text": "a photo of <A2>", "audio_token": ["20", 0]},
        }
        graph["31"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["30", 0]}}
        graph["32"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
        graph["33"] = {
            "class_type": "KSampler",
            "inputs": {
                "model": ["14", 0],
                "positive": ["30", 0],
                "negative": ["31", 0],
                "latent_image": ["32", 0],
                "seed": 1,
                "steps": 1,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        }
        graph["34"] = {"class_type": "SaveLatent", "inputs": {"samples": ["33", 0], "filename_prefix": "x"}}
        assert_readable(client.run(graph), "<A2>", "no audio token 2")
