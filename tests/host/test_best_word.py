"""A training that begins at the best of many ordinary words."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.errors import TrainingError
from aai_pack.nodes.host.adapt import best_word, training
from aai_pack.nodes.host.adapt.loss import DiffusionLoss
from aai_pack.nodes.host.base.vocabulary import word_rows
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_training import state_of

pytestmark = pytest.mark.usefixtures("forgetful")
WORDS = "dog, sea, church bell, thunder"
SMALL = AdaptConfig(
    steps=2,
    learning_rate=0.01,
    resolution=64,
    evaluate_every=2,
    held_out=2,
    start="best_word",
    words=WORDS,
)


@pytest.fixture(scope="module")
def models():
    return micro.build()


def train(models, **changes):
    config = replace(SMALL, **changes)
    with torch.inference_mode():
        return training.train(*models, micro.sound()[None], [micro.pictures()], config)


def started_at(monkeypatch) -> list:
    """Fills with the token of step 0 of every training."""
    seen, trainer = [], training.AdapterTrainer

    class Watched(trainer):
        def __init__(self, start, *args, **kwargs):
            seen.append(start)
            super().__init__(start, *args, **kwargs)

    monkeypatch.setattr(training, "AdapterTrainer", Watched)
    return seen


def preferring(monkeypatch, word: str, clip) -> None:
    """A model that draws `word` better than anything else."""
    row, call = word_rows(clip, word)["clip_l"][:1], DiffusionLoss.__call__

    def loss(self, vectors, sample):
        right = torch.allclose(vectors["clip_l"][:1].detach(), row, atol=1e-5)
        return call(self, vectors, sample) * (0.5 if right else 1.0)

    monkeypatch.setattr(DiffusionLoss, "__call__", loss)


@equal_trainings
@pytest.mark.parametrize(("word", "seed"), [("sea", 1), ("thunder", 2)])
def test_it_begins_at_the_word_that_tells_the_pictures_best(models, monkeypatch, word, seed):
    seen, before = started_at(monkeypatch), state_of(models)
    preferring(monkeypatch, word, models[1])
    done = train(models, seed=seed)
    assert torch.allclose(seen[0].vectors["clip_l"], word_rows(models[1], word)["clip_l"][:1], atol=1e-5)
    assert done.token.metadata["start_word"] == word
    assert f'Started from "{word}", the word of 4' in done.report.text()
    assert state_of(models) == before
    assert torch.equal(train(models, seed=seed).token.vectors["clip_l"], done.token.vectors["clip_l"])


def test_both_encoders_of_sdxl_begin_there(monkeypatch):
    models, seen = micro.build("sdxl"), started_at(monkeypatch)
    done = train(models)
    rows = word_rows(models[1], done.token.metadata["start_word"])
    for key, start in seen[0].vectors.items():
        assert torch.allclose(start, rows[key][:1], atol=1e-5)


def test_another_list_is_another_training(models):
    first, second = train(models), train(models, words="dog, sea")
    assert "the word of 4" in first.report.text() and "the word of 2" in second.report.text()


def test_a_sound_alone_is_left_alone(models):
    done = train(models, mode="sound_only")
    assert "start_word" not in done.token.metadata and not done.token.adapters["clip_l"].any()


def test_a_cancel_while_it_chooses_leaves_the_models_as_they_were(models, monkeypatch):
    before, looks = state_of(models), []
    monkeypatch.setattr(best_word.comfy.utils.ProgressBar, "update_absolute", lambda self, done, *_: looks.append(done))

    def stop():
        if looks and looks[-1] == 5:
            raise mm.InterruptProcessingException

    monkeypatch.setattr(best_word.mm, "throw_exception_if_processing_interrupted", stop)
    with pytest.raises(mm.InterruptProcessingException):
        train(models, seed=77)
    assert state_of(models) == before and looks == [1, 2, 3, 4, 5]


def test_too_little_memory_is_one_sentence(models, monkeypatch):
    def out(*_):
        raise torch.cuda.OutOfMemoryError("out")

    monkeypatch.setattr(best_word, "choose", out)
    with pytest.raises(TrainingError, match="Out of memory: A step of 1 x 64 px needs more"):
        train(models, seed=78)
