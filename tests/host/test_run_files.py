"""No work is lost: cancels, errors, a full disk, the same again; and what is shown on the way."""

from __future__ import annotations

import comfy.model_management as mm
import comfy.utils
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import training
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.adapt.preview import Options
from aai_pack.tests import windows
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_training import state_of

SMALL = {"steps": 8, "resolution": 64, "evaluate_every": 3, "held_out": 2, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def models():
    return micro.build()


pytestmark = pytest.mark.usefixtures("own_folders")


def train(models, *, resume_from="", options=None, pictures=0, sound=None, **changes):
    config = AdaptConfig(**{**SMALL, **changes})
    with torch.inference_mode():
        groups = [micro.pictures(seed=pictures)]
        sounds = (micro.sound() if sound is None else sound)[None]
        return training.train(*models, sounds, groups, config, resume_from=resume_from, options=options)


def cancel_at(monkeypatch, call: int):
    """Cancel inside the n-th evaluation of the loss, as the host does inside an operation."""
    calls, evaluate = [], DiffusionLoss.__call__

    def cancelled(self, vectors, sample):
        calls.append(1)
        if len(calls) == call:
            raise mm.InterruptProcessingException
        return evaluate(self, vectors, sample)

    monkeypatch.setattr(DiffusionLoss, "__call__", cancelled)


@equal_trainings
def test_cancelled_runs_go_on(models, monkeypatch, own_folders):
    expected = train(models, seed=5)
    (own_folders / "trainings").rename(own_folders / "aside")
    before, replaced = state_of(models), windows.refuse_held_files(monkeypatch)
    for call in (4, 3, 5):  # a look takes two evaluations, a step one
        replaced.clear()
        with monkeypatch.context() as patch:
            cancel_at(patch, call)
            with pytest.raises(mm.InterruptProcessingException):
                train(models, seed=5)
        assert state_of(models) == before
        (run,) = (own_folders / "trainings").glob("*.safetensors")  # written again while what was read of it is in use
        assert run.name in replaced
        token = AudioToken.load(max((own_folders / "tokens").iterdir(), key=lambda p: p.stat().st_mtime_ns))
        assert bool(token.vectors["clip_l"].isfinite().all())
    done = train(models, seed=5)
    assert done.losses == expected.losses
    assert torch.equal(done.token.vectors["clip_l"], expected.token.vectors["clip_l"])
    assert done.token.metadata == expected.token.metadata


def test_the_same_again_trains_nothing(models, monkeypatch):
    """The stored result comes at once: no model is loaded, nothing is encoded, nothing is evaluated."""
    first = train(models, options=Options(preview_every=4, preview_steps=2))
    for owner, name in ((mm, "load_models_gpu"), (DiffusionLoss, "__call__"), (models[2], "encode")):
        monkeypatch.setattr(owner, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    again = train(models)
    assert torch.equal(first.token.vectors["clip_l"], again.token.vectors["clip_l"]) and first.losses == again.losses
    assert again.report == first.report and again.token.metadata == first.token.metadata
    assert torch.equal(again.sheet, first.sheet)


def test_a_stored_result_whose_sheet_was_deleted(models, own_folders):
    first = train(models)
    (picture,) = (own_folders / "trainings").glob("*.png")
    picture.write_bytes(b"damaged")
    assert torch.equal(train(models).sheet, first.sheet)


def test_other_inputs_are_another_run(models, own_folders):
    train(models)
    train(models, pictures=1)
    train(models, seed=1)
    train(micro.build(seed=4))
    assert len(list((own_folders / "trainings").glob("*.safetensors"))) == 4


@equal_trainings
def test_a_sound_that_is_rounded_otherwise_is_the_same_run(models, own_folders, monkeypatch):
    """A stopped training goes on, and one that ended gives its word, where the encoder rounds otherwise."""
    told = []
    monkeypatch.setattr("aai_pack.nodes.host.adapt.run_files.tell", told.append)
    rounded = torch.nn.functional.normalize(micro.sound() + 1e-6 * micro.sound(seed=1), dim=-1)
    with monkeypatch.context() as patch:
        cancel_at(patch, 7)
        with pytest.raises(mm.InterruptProcessingException):
            train(models)
    (path,) = (own_folders / "trainings").glob("*.safetensors")
    told.clear()
    done = train(models, sound=rounded)
    (text,) = told
    assert f"{path.stem} continues from step" in text and "rounded otherwise" in text
    train(models)
    assert f"{path.stem} was already complete" in told[-1]
    again = train(models, sound=rounded, resume_from=path.stem)
    assert torch.equal(again.token.vectors["clip_l"], done.token.vectors["clip_l"])
    assert [path] == list((own_folders / "trainings").glob("*.safetensors"))


def test_a_clip_skip_is_another_run(models, own_folders):
    clip = models[1].clone()
    clip.clip_layer(-2)
    first = train(models)
    second = train((models[0], clip, models[2]))
    assert len(list((own_folders / "trainings").glob("*.safetensors"))) == 2
    assert first.losses != second.losses


def test_resume_from(models, own_folders):
    train(models)
    (path,) = (own_folders / "trainings").glob("*.safetensors")
    assert len(train(models, resume_from=path.stem).losses) == 8
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.02 and is 0\.5"):
        train(models, resume_from=path.stem, learning_rate=0.5)
    for name in ("nothing", "../" + path.stem, "0" * 24):
        with pytest.raises(TrainingError, match="There is no training"):
            train(models, resume_from=name)


@equal_trainings
def test_a_damaged_checkpoint_does_not_stand_in_the_way(models, own_folders):
    first = train(models)
    (path,) = (own_folders / "trainings").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(train(models).token.vectors["clip_l"], first.token.vectors["clip_l"])


@equal_trainings
def test_a_disk_that_takes_nothing(models, own_folders):
    expected = train(models)
    folder = own_folders / "trainings"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    done = train(models, options=Options(checkpoint_every=1))
    assert torch.equal(done.token.vectors["clip_l"], expected.token.vectors["clip_l"])


@equal_trainings
def test_what_is_shown_changes_nothing(models, monkeypatch, own_folders):
    plain = train(models)
    (own_folders / "trainings").rename(own_folders / "aside")
    shown = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar, "update_absolute", lambda self, value, total=None, preview=None: shown.append(preview)
    )
    before = state_of(models)
    watched = train(models, options=Options(preview_every=4, preview_steps=2))
    assert state_of(models) == before
    assert torch.equal(plain.token.vectors["clip_l"], watched.token.vectors["clip_l"])
    assert plain.losses == watched.losses
    pictures = [preview[1] for preview in shown if preview]
    assert [picture.size for picture in pictures] == [(256, 256), (512, 320), (256, 256)]
    assert pictures[0].tobytes() != pictures[2].tobytes(), "the word has moved"
    # A sheet of three references, two previews and the curve has two rows of four; without previews one.
    assert watched.sheet.shape[1] == 2 * plain.sheet.shape[1] - 8
    assert float(watched.sheet.min()) >= 0 and float(watched.sheet.max()) <= 1
