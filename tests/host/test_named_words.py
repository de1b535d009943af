"""Words as artists name them, found in prompts as CLIP splits them; and every word named that is not there."""

from __future__ import annotations

import logging

import pytest
import torch
from aai_pack.aai_models.errors import EditError, TokenError
from aai_pack.nodes.host.base import prompt_words
from aai_pack.nodes.host.base.prompt_words import PromptWords
from aai_pack.nodes.host.inject import edits, loudness, watch
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, encode


@pytest.fixture(scope="module")
def models():
    return micro.build()


def known(models, prompt: str) -> PromptWords:
    return PromptWords.of(encode(models, prompt)[0][1])


def spelled(words: PromptWords, phrase: str) -> str:
    return "".join(words.texts[column] for column in words.columns_of(phrase))


@pytest.mark.parametrize(
    ("prompt", "phrase", "count"),
    [
        ("a caf\u00e9 at night", "caf\u00e9", None),
        ("a cafe\u0301 at night", "caf\u00e9", None),  # the accent as a letter of its own
        ("a CAF\u00c9 at night", "Caf\u00e9", None),
        ("\u043f\u043b\u044f\u0436 at night", "\u041f\u043b\u044f\u0436", None),
        ("\u7f8e\u3057\u3044\u6d77, sharp", "\u6d77", None),
        ("a wave \U0001f30a, sharp", "\U0001f30a", None),
        ("a wave \U0001f30a\U0001f30a, sharp", "\U0001f30a\U0001f30a", None),
        ("the dog's house", "dog's", 2),
        ("the dog\u2019s house", "dog's", None),
        ("we don't know", "don't", 2),
        ("a (beach), sunset", "beach", 1),
        ("a (beach), sunset", "(beach)", 1),
        (r"a \(beach\), sunset", "beach", 1),
        (r"a \(beach\), sunset", "(beach)", 3),
        (r"a \(beach\), sunset", r"\(beach\)", 3),
        ("a (beach:1.3), sunset", "(beach:1.3)", 1),
        (r"pikachu_\(pokemon\) at sea", "pikachu_(pokemon)", None),
        (r"pikachu_\(pokemon\) at sea", r"pikachu_\(pokemon\)", None),
        ("pikachu_(pokemon) at sea", "pikachu_(pokemon)", None),
        ("a well-known dog", "well-known", 3),
        ("in 2024 at sea", "2024", 4),
        ("a dog, another dog", "dog", 2),
        ("a red car by a red house", "a red  car", 3),
        ("the <A*> at sea", "the <A*> at", 3),
        ("the <A*> at sea", "<A1>", 1),
    ],
)
def test_a_word_is_found_as_it_is_written(models, prompt, phrase, count):
    columns = known(models, prompt).columns_of(phrase)
    assert columns and columns == sorted(set(columns))
    assert count is None or len(columns) == count


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("a carpet at night", "car"),
        ("a carpet at night", "pet"),
        ("a dog inthe house", "in the"),
        ("we went to get her", "together"),
        ("a cafe at night", "caf\u00e9"),
        ("the <A*> at sea", "a"),
        ("the <A*> at sea", "<A2>"),
        ("the <A*> at sea", "<A*> sea"),
        ("a dog", ""),
    ],
)
def test_what_is_not_written_is_not_found(models, prompt, phrase):
    assert not known(models, prompt).columns_of(phrase)


def test_a_word_in_a_later_chunk_and_a_word_of_several_tokens(models):
    words = known(models, "word " * 100 + "a tyrannosaurus at sea")
    assert spelled(words, "tyrannosaurus") == "tyrannosaurus</w>" and min(words.columns_of("tyrannosaurus")) > 77


PLACES = {
    "reweight": lambda models, word: edit(models, SOURCE, [TARGET], reweight=f"beach: 1\n{word}: 2"),
    "word_windows": lambda models, word: edit(models, SOURCE, [TARGET], word_windows=f"beach: 0-1\n{word}: 0-0.5"),
    "words": lambda models, word: loudness.scaled(encode(models, TARGET), f"beach, {word}", 1.5, 0.0, 1.0, "own"),
    "blend_words": lambda models, word: edit(models, SOURCE, [TARGET], blend_words=f"beach, {word}"),
    "Watch Words": lambda models, word: alone(
        models, TARGET, model=watch.watched(models[0], f"beach, {word}", 1, 2)[0]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_word_is_named_beside_a_known_one(models, place):
    with pytest.raises(EditError, match=rf"{place} names 'baech'.*a sea with <A\*> along the beach"):
        PLACES[place](models, "baech")


def test_an_edit_may_watch_a_word_of_the_target_alone(models):
    from aai_pack.nodes.host.inject import prompt_to_prompt, sheets

    model, maps = watch.watched(models[0], "<A*>", 2, 2)
    source, target = edit(models, "a photo of a beach", ["a photo of a beach with <A*>"], model=model)
    plain = edit(models, "a photo of a beach", ["a photo of a beach with <A*>"])
    assert torch.equal(source, plain[0]) and torch.equal(target, plain[1])
    average = maps.average()
    assert average.shape == (2, 1, 4, 6) and not average[0].any() and bool((average[1] > 0).all())
    images = torch.rand(2, 64, 96, 3)
    assert sheets.heat_maps(maps, images, 0.8)[0].shape == (2, 64, 96, 3)
    assert sheets.edit_sheet(images, 2, [], None, None, maps).shape[0] == 1
    with pytest.raises(EditError, match="Watch Words names '<A2>'"):
        edit(models, "a beach", ["a beach with <A*>"], model=watch.watched(models[0], "<A*>, <A2>", 1, 2)[0])
    assert prompt_to_prompt.KEY


def test_the_negative_prompts_words_are_not_watched(models):
    """`blurry` of the negative prompt is a watched word: its maps are no part of the picture's."""
    model, maps = watch.watched(models[0], "sea", 1, 2)
    alone(models, "a sea", model=model)
    expected = maps.average()
    with torch.inference_mode():
        from aai_pack.tests.host.test_prompt_to_prompt import empty, sample

        latent = empty() | {"batch_index": [0]}
        sample(model, encode(models, "a sea"), encode(models, "blurry sea"), latent)
    assert maps.counts == {(0, 0): maps.counts[0, 0]}
    assert maps.average().shape == expected.shape and maps.counts[0, 0] % 5 == 0


def test_near_misses_are_said_and_read_as_text(models, caplog):
    with caplog.at_level(logging.WARNING):
        encode(models, "a <a*> sea with <A*:1.2>")
    assert any("<a*>, <A*:1.2>" in record.message for record in caplog.records)
    caplog.clear()
    encode(models, "a (<A*>:1.2) sea")
    assert not caplog.records


def test_an_audio_word_behind_embedding_is_refused(models):
    for text in ("a embedding:<A*> sea", "embedding: <A2>"):
        with pytest.raises(TokenError, match="behind embedding"):
            encode(models, text)


REPLACE = {"controller": "AttentionReplace"}


@pytest.mark.parametrize("before", ["", "word " * 76, "word " * 73, "word " * 160])
def test_replacing_a_word_by_a_longer_one_in_any_chunk(models, before):
    """dog -> rottweiler, of two tokens: all other words take the maps of themselves, as AttentionRefine's do."""
    source, target = (known(models, f"{before}a {dog} on a beach") for dog in ("dog", "rottweiler"))
    settings = edits.EditSettings(**REPLACE)
    matrix = edits.make_edit(source, target, 0, settings).matrix
    for word in ("on", "beach"):
        (ours,), (theirs,) = target.columns_of(word), source.columns_of(word)
        assert matrix[:, ours].nonzero().flatten().tolist() == [theirs], word
    ours, (theirs,) = target.columns_of("rottweiler"), source.columns_of("dog")
    assert len(ours) > 1 and matrix[theirs, ours].tolist() == [1 / len(ours)] * len(ours)
    for start in range(0, target.length, 77):
        assert matrix[start, start] == 1.0
    assert torch.equal(
        matrix.sum(0), torch.where(torch.isin(torch.arange(target.length), torch.tensor(ours)), 1 / len(ours), 1.0)
    )


def test_words_are_counted_over_all_chunks(models):
    source, target = known(models, "word " * 76 + "a dog"), known(models, "word " * 76 + "a big dog")
    with pytest.raises(EditError, match="78 words and the target 79"):
        edits.make_edit(source, target, 0, edits.EditSettings(**REPLACE))


def test_the_reading_of_a_prompt_is_what_was_written(models):
    error = prompt_words.unknown_words(["x"], [known(models, "a (<A*>:1.2) sea")], "words")
    assert "The prompt reads: a (<A*>:1.2) sea" in str(error)
