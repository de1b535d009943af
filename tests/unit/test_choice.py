"""The choice of the ordinary word that a training begins at."""

from __future__ import annotations

import math

import pytest
import torch
from aai_pack.aai_models.adapt.choice import LOOKS, ROUNDS, STYLES, THINGS, candidates, choose
from aai_pack.aai_models.adapt.config import AdaptConfig
from aai_pack.aai_models.adapt.objective import NoisySample
from aai_pack.aai_models.adapt.start import at_word
from aai_pack.aai_models.errors import TrainingError
from aai_pack.tests.unit.test_token import make_token

SAMPLES = [NoisySample(torch.zeros(1), torch.zeros(1), torch.tensor([float(n)])) for n in range(ROUNDS * LOOKS)]


def test_the_word_of_the_least_loss_wins():
    losses = {"dog": 0.5, "cat": 0.2, "bell": 0.3, "rain": 0.9}
    found = choose(list(losses), lambda word, _: losses[word], SAMPLES)
    assert found[0] == ("cat", pytest.approx(math.log(0.2))) and [word for word, _ in found] == ["cat", "bell", "dog"]


def test_every_level_of_noise_counts_alike():
    """A third less where the loss is small outweighs a little more where it is large."""

    def loss(word: str, sample: NoisySample) -> float:
        noisy = float(sample.sigmas) > 5
        return {"style": (0.0066, 1.01), "none": (0.01, 1.0)}[word][0 if noisy else 1]

    assert choose(["none", "style"], loss, SAMPLES)[0][0] == "style"


def test_most_words_are_looked_at_in_the_first_round_alone():
    words, seen = [f"word{n}" for n in range(36)], []
    progress = []
    choose(
        words,
        lambda word, sample: seen.append((word, float(sample.sigmas))) or 1 + int(word[4:]),
        SAMPLES,
        lambda done, total: progress.append((done, total)),
    )
    counts = {word: sum(1 for other, _ in seen if other == word) for word in words}
    assert sorted(counts.values()) == [LOOKS] * 24 + [2 * LOOKS] * 8 + [3 * LOOKS] * 4
    assert counts["word0"] == ROUNDS * LOOKS and counts["word35"] == LOOKS
    assert len({noise for word, noise in seen if word == "word0"}) == len(SAMPLES), "each sample once"
    assert progress[-1] == (len(seen), len(seen))


@pytest.mark.parametrize("words", [["one"], ["one", "two"]])
def test_few_words(words):
    assert [word for word, _ in choose(words, lambda word, _: len(word) + (word == "one"), SAMPLES)] == words[::-1]


def test_numbers_that_are_none():
    losses = {"bad": math.nan, "good": 2.0, "worse": math.inf}
    assert choose(list(losses), lambda word, _: losses[word], SAMPLES)[0][0] == "good"
    with pytest.raises(TrainingError, match="NaN or infinite for every word"):
        choose(["bad"], lambda *_: math.nan, SAMPLES)
    assert math.isfinite(choose(["zero"], lambda *_: 0.0, SAMPLES)[0][1])


def test_which_words():
    assert candidates(AdaptConfig(words=" ink wash, , oil ,ink wash")) == ("ink wash", "oil")
    assert candidates(AdaptConfig(words=" , ")) == candidates(AdaptConfig()) == THINGS
    assert candidates(AdaptConfig(prompt="a painting in the style of <A*>")) == STYLES
    assert candidates(AdaptConfig(prompts="style")) == STYLES
    for words in (STYLES, THINGS):
        assert len(set(words)) == len(words)


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_token_at_a_word(vectors):
    token, rows = (
        make_token({"clip_l": 768, "clip_g": 1280}),
        {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(1, 1280)},
    )
    moved = at_word(token, rows, vectors)
    for key, own in rows.items():
        expected = own[torch.arange(vectors) % len(own)]
        assert torch.allclose(moved.vectors[key], expected, atol=1e-6)
        assert torch.equal(moved.sound(key), token.sound(key)), "the sound stays in it"
