"""How a training may end: signals that reach its workers too, a full disk, a clip that is no number, and what follows."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.align.config import AlignConfig
from aai_pack.aai_models.align.data import row_cache
from aai_pack.aai_models.align.data.items import MemorySource
from aai_pack.aai_models.align.data.row_cache import RowCache
from aai_pack.aai_models.align.train.trainer import RunOptions, Trainer
from aai_pack.aai_models.errors import TrainingError
from aai_pack.tests.unit.align_sets import make_set, memory_source, run, shard_source, small_config, small_model
from aai_pack.tests.unit.test_train import same_end

ROOT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("prepared"))


def members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] != "Z":
            found.append(int(place.name))
    return found


class Command:
    """A training at the command line, in a session of its own as a terminal gives it, with two workers."""

    def __init__(self, data: Path, folder: Path):
        tower = [f"--set=tower.{name}={value}" for name, value in vars(small_config().tower).items()]
        settings = ["--set=batch=4", "--set=epochs=100000", "--checkpoint-minutes=0", "--device=cpu", "--workers=2"]
        words = [sys.executable, "-m", "aai_models.align", "train", str(data), str(folder), *tower, *settings]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = folder / "log.jsonl"
        before = self.steps()
        self.process = subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, **pipes)
        while self.steps() < before + 2 and self.process.poll() is None:
            time.sleep(0.01)

    def steps(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def end(self) -> tuple[int, str]:
        words = self.process.communicate(timeout=120)[0]
        return self.process.returncode, words


@LINUX
def test_signals_at_a_terminal(tmp_path, prepared):
    """Ctrl-C reaches every process of a terminal, a cluster's SIGTERM only the first; kill -9 leaves no worker behind."""
    command = Command(prepared, tmp_path)
    os.killpg(command.process.pid, signal.SIGINT)
    code, words = command.end()
    assert code == 130 and "the same command goes on" in words and "Traceback" not in words, words
    command = Command(prepared, tmp_path)
    command.process.send_signal(signal.SIGTERM)
    code, words = command.end()
    assert code == 130 and "going on from step" in words and "Traceback" not in words, words
    command = Command(prepared, tmp_path)
    session = command.process.pid
    assert len(members(session)) >= 3
    command.process.kill()
    deadline = time.monotonic() + 60
    while members(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(session) == []
    command.process.communicate(timeout=60)


class CutOff(MemorySource):
    """Its clips end together with the wish to stop, as a download that Ctrl-C ends."""

    trainer: Trainer | None = None

    def train(self, epoch, rank, size, skip):
        for item in super().train(epoch, rank, size, skip):
            if self.trainer is not None and item.consumed > 11:
                self.trainer.asked = True
                return
            yield item


def test_a_stop_is_not_the_end_of_an_epoch(tmp_path):
    config = small_config()
    run(tmp_path / "whole", memory_source(config), config)
    source = memory_source(config)
    source.__class__ = CutOff
    trainer = Trainer(
        small_model(), source, config, tmp_path / "parts", options=RunOptions(tensorboard=False), say=lambda _: None
    )
    source.trainer = trainer
    result = trainer.run()
    assert (result.steps, result.finished, trainer.epoch) == (1, False, 0)
    run(tmp_path / "parts", memory_source(config), config)
    same_end(tmp_path / "whole", tmp_path / "parts")


def test_after_a_sound_that_was_no_number_nothing_is_lost(tmp_path):
    """The teacher, too, is as it was: the training that went on equals one that nothing happened to."""
    config = small_config(momentum_target="both")
    run(tmp_path / "whole", memory_source(config), config)
    source = memory_source(config)
    source._fbank[list(source.train(0, 0, 1, 0))[9].row, 7, 7] = float("nan")
    with pytest.raises(TrainingError, match="NaN or infinite"):
        run(tmp_path / "parts", source, config)
    run(tmp_path / "parts", memory_source(config), config)
    same_end(tmp_path / "whole", tmp_path / "parts")


KILLED = """
import os, signal, sys; sys.path.insert(0, sys.argv[1])
from aai_models.align.config import AlignConfig
from aai_models.align.data.shards import ShardSet, ShardSource
from aai_models.align.texts import HashedWords
from aai_models.errors import DataError
if __name__ == "__main__":
    source = ShardSource(
        ShardSet.open(sys.argv[2]), AlignConfig.from_json(sys.argv[3]), HashedWords(64), states=(64,), workers=1
    )
    clips = source.train(0, 0, 1, 0)
    assert next(clips).fbank.shape == (1024, 128)
    pool = source._executor
    assert next(source.heldout(0, 1)).fbank.shape == (1024, 128) and source._executor is pool
    os.kill(next(iter(pool._processes)), signal.SIGKILL)
    try:
        print(len(list(clips)), len(list(source.train(1, 0, 1, 0))))
    except DataError as error:
        print(error)
    print(len(list(source.train(1, 0, 1, 0))), "clips")
"""


def test_a_worker_that_was_killed(tmp_path, prepared):
    """One line that says what to do; and the processes that decode live from epoch to epoch."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    words = [sys.executable, str(script), str(ROOT), str(prepared), small_config().to_json()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "was killed" in done.stdout and "fewer --workers" in done.stdout and "20 clips" in done.stdout


class TestFullDisk:
    def test_rows(self, tmp_path):
        resource = pytest.importorskip("resource")
        cache = RowCache(tmp_path, "x", 9, (1000,), 10**6)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
        try:
            for row in range(3):
                cache.put(row, torch.full((1000,), float(row + 1)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert cache.get(0).tolist() == [1.0] * 1000 and not cache.has(1) and not cache.has(2)
        assert "no longer kept" in cache.failure
        again = RowCache(tmp_path, "x", 9, (1000,), 10**6)
        again.put(1, torch.full((1000,), 5.0))
        assert again.get(1).tolist() == [5.0] * 1000 and again.get(0).tolist() == [1.0] * 1000

    def test_training_goes_on_without_kept_rows(self, tmp_path, prepared, monkeypatch):
        config = small_config(epochs=1)

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(row_cache, "_write", full)
        result, said = run(tmp_path / "run", shard_source(prepared, config, tmp_path / "cache"), config)
        text = "\n".join(said)
        assert result.finished and "trouble with 1" in text and "training goes on without (No space left" in text

    @LINUX
    def test_the_log(self, tmp_path):
        (tmp_path / "log.jsonl").symlink_to("/dev/full")
        config = small_config()
        with pytest.raises(TrainingError, match=r"Could not write the log \(No space left"):
            run(tmp_path, memory_source(config), config)


class TestSchedules:
    def trainer(self, folder, **changes) -> Trainer:
        config = small_config(batch=8, epochs=4, lr=0.8, **changes)
        return Trainer(small_model(), memory_source(config, "none", count=32), config, folder)

    def at(self, trainer: Trainer, epoch: int, step: int) -> tuple[float, float]:
        trainer.epoch, trainer.step_of_epoch = epoch, step
        return trainer.learning_rate(), trainer._alpha()

    def test_halving_and_the_ramp_of_alpha(self, tmp_path):
        trainer = self.trainer(tmp_path, schedule="halve", alpha=0.4, alpha_ramp=1.0)
        rates = [self.at(trainer, epoch, step)[0] for epoch in range(4) for step in (0, 3)]
        assert rates == pytest.approx([0.8] * 4 + [0.4] * 2 + [0.2] * 2)
        alphas = [self.at(trainer, 0, step)[1] for step in range(4)] + [self.at(trainer, 3, 1)[1]]
        assert alphas == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
        assert self.at(self.trainer(tmp_path, alpha=0.4, alpha_ramp=0.0), 0, 0)[1] == 0.4

    def test_cosine_and_warmup(self, tmp_path):
        trainer = self.trainer(tmp_path, schedule="cosine", warmup=1.0)
        rates = [self.at(trainer, epoch, step)[0] for epoch in range(4) for step in range(4)]
        assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=1e-6)
        assert rates[8] == pytest.approx(0.4) and rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 0.05

    def test_the_teacher_is_averaged_before_it_is_asked(self, tmp_path):
        """At step 0 it is the student as it began; at step 1 it has moved by 1 - m towards the student after step 0."""
        config = small_config(momentum_target="audio", momentum=0.9, noise=False)
        source = memory_source(config)
        stepper = Trainer(small_model(), source, config, tmp_path).stepper
        items = list(source.train(0, 0, 1, 0))[:8]
        name = "tower.blocks_a.0.attn.qkv.weight"
        average, weight = stepper.teacher.averages[name]
        begun = weight.detach().clone()
        terms = [stepper.step(items, 0, 0.4, 1e-2)]
        assert torch.equal(average, begun) and not torch.equal(weight, begun)
        after = weight.detach().clone()
        terms.append(stepper.step(items, 0, 0.4, 1e-2))
        torch.testing.assert_close(average, 0.9 * begun + 0.1 * after)
        assert terms[0]["momentum"] == pytest.approx(0.0, abs=1e-5) and terms[1]["momentum"] > 1e-4


def test_scaled_gradients_as_half_precision_has_them(tmp_path):
    """A scale changes no step, and a gradient that overflows under it leaves the weights alone and lowers it."""
    config = small_config(noise=False)
    source = memory_source(config)
    items = list(source.train(0, 0, 1, 0))[:8]
    ends = {}
    for name, scale in (("plain", None), ("scaled", 2.0**12), ("overflow", 3e38)):
        stepper = Trainer(small_model(), source, config, tmp_path).stepper
        weight = stepper.student.trained()["model.blocks_u.0.attn.qkv.weight"]
        begun = weight.detach().clone()
        if scale is not None:
            stepper.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        stepper.step(items, 0, 0.4, 1e-3)
        ends[name] = weight.detach() - begun
    torch.testing.assert_close(ends["scaled"], ends["plain"], rtol=1e-4, atol=1e-6)
    assert float(ends["plain"].abs().max()) > 0 and float(ends["overflow"].abs().max()) == 0
    assert stepper.scaler.get_scale() < 3e38 and all(bool(p.isfinite().all()) for p in stepper.parameters)


def test_settings_of_a_later_version():
    text = small_config().to_json()
    with pytest.raises(TrainingError, match=r"does not know: queue.*Update the pack"):
        AlignConfig.from_json(text.replace('"seed"', '"queue"'))
    assert AlignConfig.from_json('{"lr": 0.5}').lr == 0.5
