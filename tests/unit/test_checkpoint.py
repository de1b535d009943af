"""A run that was interrupted goes on as if it had not been; a file of another run is refused with the difference."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.adapt import checkpoint
from aai_pack.aai_models.adapt.token import audio_features
from aai_pack.aai_models.errors import TrainingError
from aai_pack.tests.unit.test_adapt_settings import feature, inputs_of, trainer

ROOT = Path(__file__).resolve().parents[2]


class StoppedError(Exception):
    pass


def noisy_loss(vectors, sample):
    """Depends on every number that is drawn, so that a lost one is noticed."""
    drawn = sample.noise.sum() + sample.latents.sum() + sample.sigmas.sum()
    return (vectors["clip_l"] - feature(9) * (1 + 0.01 * drawn)).square().sum()


def run_to(run, step: int):
    def stop(state):
        if state.step == step:
            raise StoppedError

    with pytest.raises(StoppedError):
        run.run(stop)


@pytest.mark.parametrize("control", ["free", "renorm", "dti"])
@pytest.mark.parametrize("step", [1, 5, 7, 59])
def test_a_continued_run_is_the_same_bit_for_bit(tmp_path, control, step):
    changes = {"norm_control": control, "accumulation": 2, "timesteps": "middle", "prompts": "object"}
    whole = trainer(noisy_loss, **changes)
    expected = whole.run(lambda _: None)
    first = trainer(noisy_loss, **changes)
    run_to(first, step)
    checkpoint.save(first, inputs_of(first), tmp_path / "run.safetensors")
    second = trainer(noisy_loss, **changes)
    second.restore(*checkpoint.read(inputs_of(second), tmp_path / "run.safetensors"))
    assert second.step == step
    token = second.run(lambda _: None)
    assert torch.equal(token.vectors["clip_l"], expected.vectors["clip_l"])
    assert torch.equal(second.adapters["clip_l"], whole.adapters["clip_l"])
    assert second.losses == whole.losses and second.held_out_losses == whole.held_out_losses
    assert token.metadata == expected.metadata and second.best_step == whole.best_step


@pytest.mark.parametrize("seed", range(10))
def test_a_failure_inside_a_step_loses_only_that_step(tmp_path, seed):
    """The loss fails at a random call, of a step or of a look; what is saved then is the last whole step."""
    at = int(torch.randint(2, 120, (1,), generator=torch.Generator().manual_seed(seed)))
    calls = []

    def failing(vectors, sample):
        calls.append(1)
        if len(calls) == at:
            raise StoppedError
        return noisy_loss(vectors, sample)

    whole = trainer(noisy_loss, accumulation=2)
    expected = whole.run(lambda _: None)
    first = trainer(failing, accumulation=2)
    with pytest.raises(StoppedError):
        first.run(lambda _: None)
    checkpoint.save(first, inputs_of(first), tmp_path / "run.safetensors")
    second = trainer(noisy_loss, accumulation=2)
    second.restore(*checkpoint.read(inputs_of(second), tmp_path / "run.safetensors"))
    assert torch.equal(second.run(lambda _: None).vectors["clip_l"], expected.vectors["clip_l"])
    assert second.losses == whole.losses and second.held_out_losses == whole.held_out_losses


def test_an_ended_run_gives_its_result_again(tmp_path):
    first = trainer(noisy_loss, patience=2, learning_rate=0.5)
    expected = first.run(lambda _: None)
    checkpoint.save(first, inputs_of(first), tmp_path / "run.safetensors")

    def never(vectors, sample):
        raise AssertionError("nothing is left to compute")

    second = trainer(never, patience=2, learning_rate=0.5)
    second.restore(*checkpoint.read(inputs_of(second), tmp_path / "run.safetensors"))
    assert second.finished
    assert torch.equal(second.run(lambda _: None).vectors["clip_l"], expected.vectors["clip_l"])


def test_changed_inputs_are_refused_with_the_difference(tmp_path):
    first = trainer(noisy_loss)
    checkpoint.save(first, inputs_of(first), tmp_path / "run.safetensors")
    other = trainer(noisy_loss, learning_rate=0.5, seed=3)
    before = other.adapters["clip_l"]
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.02 and is 0\.5.*seed was 0 and is 3"):
        other.restore(*checkpoint.read(inputs_of(other), tmp_path / "run.safetensors"))
    assert torch.equal(other.adapters["clip_l"], before) and other.step == 0


def moved(run, by: float):
    """The same run where its sounds are heard otherwise: each unit vector moved by a length and brought back to one."""
    for index, start in enumerate(run.starts):
        direction = torch.nn.functional.normalize(feature(50 + index), dim=-1)
        heard = torch.nn.functional.normalize(start.audio_feature + by * direction, dim=-1)
        run._starts = (*run.starts[:index], replace(start, audio_feature=heard), *run.starts[index + 1 :])
    return run


@pytest.mark.parametrize("by", [1e-6, 3e-3])
def test_a_run_goes_on_where_its_sounds_are_rounded_otherwise(tmp_path, by):
    """As on another device, with other threads, or after an update of PyTorch; the hash of its inputs is another one."""
    first = trainer(noisy_loss, others=(1, 2), sounds=(0, 1))
    run_to(first, 5)
    path = tmp_path / f"{checkpoint.identity(inputs_of(first))}.safetensors"
    checkpoint.save(first, inputs_of(first), path)
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    second = moved(trainer(noisy_loss, others=(1, 2), sounds=(0, 1)), by)
    inputs = inputs_of(second)
    assert (
        checkpoint.identity(inputs) != path.stem
        and checkpoint.find(inputs, audio_features(second.starts), tmp_path) == path
    )
    second.restore(*checkpoint.read(inputs, path, audio_features(second.starts)))
    assert second.step == 5 and second.losses == first.losses
    with pytest.raises(TrainingError, match="sounds was"):
        checkpoint.read(inputs, path)


@pytest.mark.parametrize("change", ["another sound", "fewer sounds", "a setting", "an old file"])
def test_another_run_is_not_taken_for_a_rounding(tmp_path, monkeypatch, change):
    first = trainer(noisy_loss, others=(1,), sounds=(0, 1))
    if change == "an old file":  # of version 0.1.0, which kept no sounds
        monkeypatch.setattr(checkpoint, "SOUNDS", "other")
    path = tmp_path / f"{checkpoint.identity(inputs_of(first))}.safetensors"
    checkpoint.save(first, inputs_of(first), path)
    monkeypatch.undo()
    second = trainer(
        noisy_loss,
        others=() if change == "fewer sounds" else (1,),
        sounds=() if change == "fewer sounds" else (0, 1),
        seed=int(change == "a setting"),
    )
    second = moved(second, 0.05 if change == "another sound" else 1e-6)
    assert checkpoint.find(inputs_of(second), audio_features(second.starts), tmp_path) is None
    with pytest.raises(TrainingError, match="began with other inputs"):
        checkpoint.read(inputs_of(second), path, audio_features(second.starts))
    assert checkpoint.find(inputs_of(first), audio_features(first.starts), tmp_path) == path


@pytest.mark.parametrize(
    "missing", ["adapter.clip_l", "best.clip_l", "optimizer.clip_l.exp_avg", "generator", "losses"]
)
def test_a_file_that_lacks_something_changes_nothing(missing):
    """Half a run would go on as if it were whole."""
    first, second = trainer(noisy_loss), trainer(noisy_loss)
    first.run(lambda _: None)
    tensors, record = first.state()
    before = second.state()
    (record if missing == "losses" else tensors).pop(missing)
    with pytest.raises((ValueError, KeyError)):
        second.restore(tensors, record)
    after = second.state()
    assert all(torch.equal(before[0][name], tensor) for name, tensor in after[0].items())
    assert before[1] == after[1] and second.step == 0


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64])
def test_other_files(tmp_path, content):
    (tmp_path / "run.safetensors").write_bytes(content)
    run = trainer(noisy_loss)
    with pytest.raises(TrainingError, match="Training cannot be continued from"):
        checkpoint.read(inputs_of(run), tmp_path / "run.safetensors")


def test_killed_while_writing(tmp_path):
    """A process that does nothing but write checkpoints is killed several times; the file is whole each time."""
    path = tmp_path / "run.safetensors"
    code = (
        "import sys, importlib.util; sys.path.insert(0, sys.argv[1])\n"
        "import torch\n"
        "from aai_models.adapt import checkpoint, config, objective, start, trainer\n"
        "from pathlib import Path\n"
        "settings = config.AdaptConfig(steps=10**6, learning_rate=0.01)\n"
        "word = start.initial_token(torch.ones(768) / 768**0.5, {'clip_l': start.WordStatistics(0.4, 0.01, 768)}, settings)\n"
        "draw = objective.Draw(objective.References(torch.ones(1, 4, 2, 2)), torch.ones(10), ('<A*>',))\n"
        "loss = lambda vectors, sample: (vectors['clip_l'] - sample.noise.mean()).square().sum()\n"
        "run = trainer.AdapterTrainer(word, draw, loss, settings)\n"
        "path = Path(sys.argv[2])\n"
        "inputs = checkpoint.run_inputs(settings, run.starts, '', run.draw.sigmas)\n"
        "if path.exists(): run.restore(*checkpoint.read(inputs, path))\n"
        "def step(r):\n"
        "    checkpoint.save(r, inputs, path); print(r.step, flush=True)\n"
        "run.run(step)\n"
    )
    last = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", code, str(ROOT), str(path)], stdout=subprocess.PIPE, text=True
        )
        try:
            lines = [int(process.stdout.readline()) for _ in range(4)]
        finally:
            process.kill()
            process.wait()
        assert lines[0] > last, "it goes on where it was"
        last = lines[0]
