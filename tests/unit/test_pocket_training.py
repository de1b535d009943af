"""The pocket trainings on any machine: workers change nothing, runs go on, Ctrl-C and errors are told in a sentence."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from aai_pack.aai_models.errors import PocketError, TrainingError
from aai_pack.lab.training import autoencoder, cli, diffusion, judge, runs, sounds, workers
from aai_pack.lab.training.workers import Workers
from aai_pack.pocket.models import weights
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

ROOT = Path(__file__).resolve().parents[2]
TINY = {"first": 8, "fresh": 4, "most": 64, "batch": 4}
RUNS = {
    "autoencoder": (autoencoder, autoencoder.AutoencoderConfig(batch=2)),
    "pictures": (diffusion, diffusion.DiffusionConfig(**TINY)),
    "judge": (judge, judge.JudgeConfig(batch=4)),
    "sounds": (sounds, sounds.SoundConfig(batch=4, pictures=4, shapes=1, clips=1, mixed=0.5)),
}


@pytest.fixture(scope="module")
def two():
    """Two processes, for all tests that need them: each takes seconds to begin."""
    with Workers(2) as pool:
        yield pool


@pytest.fixture
def count_steps(monkeypatch):
    """A run's time is spent after so many steps; `stop_after` presses Ctrl-C before that."""
    done = []

    def share(budget) -> float:
        done.append(1)
        if len(done) == done_at["stop_after"]:
            signal.raise_signal(signal.SIGINT)
        return (len(done) - 1) / done_at["steps"]

    done_at = {"steps": 3, "stop_after": -1}
    monkeypatch.setattr(runs.Budget, "share", property(share))
    monkeypatch.setattr(judge, "accuracy", lambda *_: {})
    monkeypatch.setattr(autoencoder, "evaluate", lambda *_: 0.0)

    def begin(stop_after: int = -1, steps: int = 0) -> None:
        """Count from `steps` that are behind."""
        done_at["stop_after"] = stop_after
        done[:] = [1] * steps

    begin.done = done
    return begin


@pytest.fixture
def one_thread():
    """With more threads even the same training twice differs in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("part", RUNS)
def test_workers_change_nothing_and_a_stopped_run_goes_on(part, tmp_path, count_steps, two, monkeypatch, capsys):
    module, config = RUNS[part]
    count_steps()
    alone = torch.load(module.train(config, tmp_path / "alone"), weights_only=True)
    assert len(count_steps.done) == 4  # three steps, and the look at the end
    # As two processes, of which the first run is stopped in its second step.
    monkeypatch.setattr(runs, "Workers", lambda count: KeptOpen(two))
    machine = runs.Machine(workers=2)
    count_steps(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        module.train(config, tmp_path / "two", machine=machine)
    folder = next(path for path in (tmp_path / "two").iterdir() if path.is_dir())
    state = torch.load(folder / "state.pt", weights_only=True)
    assert 1 <= state["step"] < 3 and not (folder / "weights.pt").exists()
    if part in ("pictures", "sounds"):  # whose pool begins anew: the same from the start, not behind a stop
        (folder / "state.pt").unlink()
        count_steps()
    else:
        count_steps(steps=state["step"])
    both = torch.load(module.train(config, tmp_path / "two", machine=machine), weights_only=True)
    assert alone.keys() == both.keys() and all(torch.equal(alone[name], both[name]) for name in alone)


@pytest.mark.parametrize("part", RUNS)
def test_ctrl_c_while_the_workers_begin_still_saves(part, tmp_path, two, monkeypatch):
    module, config = RUNS[part]

    def begun(count: int) -> KeptOpen:
        signal.raise_signal(signal.SIGINT)
        return KeptOpen(two)

    monkeypatch.setattr(runs, "Workers", begun)
    with pytest.raises(KeyboardInterrupt):
        module.train(config, tmp_path, machine=runs.Machine(workers=2))
    (state,) = tmp_path.glob("*/state.pt")
    assert torch.load(state, weights_only=True)["step"] == 0


class KeptOpen:
    """`Workers` that outlive a run."""

    def __init__(self, pool: Workers):
        self.pool = pool

    def __enter__(self) -> Workers:
        return self.pool

    def __exit__(self, *_) -> None:
        pass


class TestWorkers:
    def test_results_come_in_the_order_of_tasks(self, two):
        tasks = [(number, 3) for number in range(20)]
        assert list(two.ahead(divmod, tasks)) == list(Workers().ahead(divmod, tasks)) == [divmod(*t) for t in tasks]
        endless = two.ahead(divmod, ((number, 7) for number in itertools.count()))
        assert list(itertools.islice(endless, 3)) == [(0, 0), (0, 1), (0, 2)]

    def test_drawings_are_the_same_in_any_process(self, two):
        config = diffusion.StylesConfig()
        here, there = diffusion.drawings(config, range(40, 60)), two.submit(diffusion.drawings, config, range(40, 60))()
        assert [one.scene for one in here] == [one.scene for one in there]
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(here, there, strict=True))
        seen = [(a.portrait, b.portrait) for a, b in zip(here, there, strict=True) if a.portrait is not None]
        assert seen and all(torch.equal(*pair) for pair in seen)

    def test_an_error_is_a_sentence(self, two, tmp_path):
        with pytest.raises(
            TrainingError, match=r"`int` failed in a worker process \(ValueError.*--workers 0 to see where"
        ):
            two.submit(int, "seven")()
        with pytest.raises(PocketError, match=r"weights are not at .*nowhere.*They come with the pack"):
            two.submit(weights.load, tmp_path / "nowhere")()

    def test_a_killed_process_is_a_sentence(self):
        with Workers(1) as one:
            waiting = one.submit(os._exit, 1)
            with pytest.raises(TrainingError, match=r"worker process was killed.*fewer --workers"):
                waiting()
            with pytest.raises(TrainingError, match="worker process was killed"):
                one.submit(divmod, 1, 2)


def status(process: str | int) -> tuple[str, int]:
    """Its state (Z: it has ended) and its parent."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def children(process: int) -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if status(path.name)[1] == process]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not list processes in /proc")
def test_ctrl_c_ends_the_workers(tmp_path):
    """The command as a person calls it and stops it; nothing of it stays, and its state is there."""
    command = [sys.executable, "-m", "lab", "train", "autoencoder", "--workers", "2", "--batch", "2", "--out", tmp_path]
    process = subprocess.Popen(
        [*map(str, command)], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        for _ in range(600):
            if len(began := children(process.pid)) >= 2:
                break
            time.sleep(0.1)
        assert len(began) >= 2 and process.poll() is None
        # At once: the workers have just begun, or are about to. Whether a step was made does not matter.
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "the same command goes on" in told and "Traceback" not in told, told
    assert torch.load(tmp_path / "autoencoder" / "state.pt", weights_only=True)["step"] >= 0
    for _ in range(300):
        if all(status(child)[0] == "Z" for child in began):
            break
        time.sleep(0.1)
    assert [child for child in began if status(child)[0] != "Z"] == []


class TestCommand:
    def test_a_larger_batch_has_its_rate(self):
        small = diffusion.DiffusionConfig()
        large = cli.with_batch(small, 4 * small.batch)
        assert (large.batch, large.fresh) == (4 * small.batch, 4 * small.fresh)
        assert large.rate == pytest.approx(2 * small.rate)
        heard = cli.with_batch(sounds.SoundConfig(), 112)
        assert (heard.pictures, heard.shapes, heard.fresh) == (112, 16, sounds.SoundConfig().fresh)
        assert cli.with_batch(small, small.batch) == small

    def test_what_is_refused(self, tmp_path, capsys):
        assert cli.main(["train", "judge", "--device", "abacus", "--out", str(tmp_path)]) == 1
        assert capsys.readouterr().err.startswith("lab: The device 'abacus' is not available.")
        run = runs.Run(tmp_path, "judge", judge.JudgeConfig(batch=5))
        run.save(True)
        assert cli.main(["train", "judge", "--out", str(tmp_path), "--minutes", "0.001"]) == 1
        assert "batch was 5 and is 48" in capsys.readouterr().err


class Ear(sounds.Hearing):
    """Both towers at once: spectrograms (B, 256, 128) and drawings (P, 3, 112, 112) uint8 -> features."""

    def forward(self, fbank, drawn):
        heard = sounds.encode_period(self.towers, fbank)
        return heard, sounds.encode_half(self.towers, sounds.as_input(drawn), self.kernel)


def can_pretend() -> bool:
    """Whether this PyTorch fills tensors of a GPU that is only pretended; older ones ask its driver."""
    try:
        with FakeTensorMode(), torch.device("cuda"):
            torch.nn.Linear(1, 1)
    except RuntimeError:
        return False
    return True


class TestDevices:
    @pytest.mark.skipif(not can_pretend(), reason="this PyTorch pretends no GPU")
    def test_a_loss_asks_for_nothing_that_lies_on_the_processor(self):
        """On a device that is only pretended: whatever is made on the processor would not meet what lies there."""
        config = diffusion.StylesConfig(**TINY, unnumbered=0.9)
        with FakeTensorMode(allow_non_fake_inputs=False):
            device = torch.device("cuda")
            with device:
                model = diffusion.Model()
            columns = torch.randint(0, 20, (4, 12), device=device)
            few = torch.tensor([0, 2], device=device)
            seen = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device=device)
            four = torch.zeros(4, dtype=torch.long, device=device)
            latents = torch.randn(4, 4, 16, 16, device=device)
            batch = diffusion.Batch(latents, columns, four, four, few, seen, four + 3, few)
            for value in diffusion.loss_of(model, batch, torch.rand(1000, device=device), config, None):
                assert value.device.type == "cuda"

    @pytest.mark.skipif(not can_pretend(), reason="this PyTorch pretends no GPU")
    def test_nor_do_those_of_the_autoencoder_and_of_the_ear(self):
        config, hearing = sounds.SoundConfig(batch=4, pictures=4, shapes=1), Ear()
        with FakeTensorMode(allow_non_fake_inputs=True):
            device = torch.device("cuda")
            with device:
                model = autoencoder.Autoencoder()
            assert autoencoder.loss_of(model, torch.randn(2, 3, 128, 128, device=device), 0.1, None)[0].is_cuda
            tensors = {name: torch.empty_like(t, device=device) for name, t in hearing.named_parameters()}
            drawn = torch.zeros(5, 3, 112, 112, dtype=torch.uint8, device=device)
            a, v = functional_call(hearing, tensors, (torch.randn(4, 256, 128, device=device), drawn))
            heard, seen = (torch.zeros(count, 2, dtype=torch.long, device=device) for count in (4, 5))
            targets = torch.randn(len(sounds.CLASSES) + 5, 768, device=device)
            loss, parts = sounds._loss(a, v, heard, seen, targets, config)
            assert loss.is_cuda and all(part.is_cuda for part in parts.values())

    def test_bf16_is_used_where_the_device_has_it(self, monkeypatch):
        for has_it in (True, False):
            monkeypatch.setattr(runs, "has_bf16", lambda device, has_it=has_it: has_it)
            with runs.Machine().autocast(True):
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if has_it else torch.float32)

    def test_weights_are_written_for_any_computer(self, tmp_path):
        run = runs.Run(tmp_path, "judge", judge.JudgeConfig())
        stored = torch.load(run.finish({"w": torch.ones(2, requires_grad=True)}), weights_only=True)
        assert stored["w"].device.type == "cpu" and not stored["w"].requires_grad


def test_workers_are_started_by_the_pack(two):
    """They know the pack under the name that the training knows it by."""
    assert Path(workers.START[0]) == ROOT / "lab" / "__main__.py"
    assert two.submit(diffusion.is_unnumbered, None)() is False
