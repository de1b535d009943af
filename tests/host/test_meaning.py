"""The scoreboard's many pictures at once are those of the nodes one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aai_pack.lab.scoreboard import looks, studio, words
from aai_pack.lab.scoreboard.board import examine
from aai_pack.pocket.world.scene import Scene, draw

ROOMS = ["a photo of a beach", "a photo of a beach", "a photo of a beach"]
TARGETS = ["a photo of a beach with a *"] * 3


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    with torch.inference_mode():
        return examine(tmp_path_factory.mktemp("runs"), repeats=1, kind=words.Hosted)


@pytest.fixture(scope="module")
def rows(exam):
    return exam.words(["dog", "bell", "fire"])[:, 0]


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for rounding of sums in another order."""
    return bool((np.abs(a.astype(int) - b).max((1, 2, 3)) <= 3).all())


def test_one_conditioning_carries_several_words(exam, rows):
    together = exam.studio.paint(["a photo of a *"] * 3, rows, 1)
    alone = exam.studio.paint(["a photo of a *"], rows[:1], 1)
    assert near(together[:1], alone) and not near(together[:1], together[1:2])


def test_several_edits_at_once_are_the_edits_one_by_one(exam, rows):
    settings = {"cross_end": 0.6, "self_end": 0.3}
    together = exam.studio.edit(ROOMS, TARGETS, rows, 1, True, **settings)
    alone = exam.studio.edit(ROOMS[:1], TARGETS[:1], rows[:1], 1, True, **settings)
    for ours, single in ((together.source, alone.source), (together.edit, alone.edit), (together.free, alone.free)):
        assert near(ours[:1], single)
    assert not near(together.edit, together.source) and not near(together.edit, together.free)


def test_prompts_of_other_builds_are_drawn_apart(exam):
    texts = ["a photo of a dog", "a photo of a sneeze in the snow", "a photo of a cat"]
    encoded = exam.studio._encode(texts, None)
    assert sorted(map(sorted, studio.batches(encoded))) == [[0, 2], [1]]
    drawn = exam.studio.paint(texts, None, 1)
    assert all(picture.std() > 5 for picture in drawn)


def test_a_scale_of_one_changes_nothing_and_another_does(exam, rows):
    plain, same, soft = (exam.studio.paint(["a photo of a *"], rows[:1], 1, scale) for scale in (1.0, 1.0, 0.0))
    assert np.array_equal(plain, same) and not np.array_equal(plain, soft)


def test_maps_of_a_word_on_drawings(exam, rows):
    pictures = np.stack([draw(Scene(thing=t, seed=3))[0] for t in ("dog", "bell", "fire")])
    found = exam.studio.look(pictures, ["a photo of a * on a meadow"] * 3, rows, ["<A*>"] * 3, 2)
    assert found.shape[:2] == (3, 3) and bool((found >= 0).all()) and float(found.std()) > 0
    assert torch.allclose(found[0], found[1:].mean(0), rtol=0.5, atol=1e-3)  # the parts make the whole run


def test_overlap_and_pointing_of_a_perfect_map():
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2:5, 2:5] = masks[1, 0, 0] = True
    assert looks.overlap(masks.float(), masks).tolist() == [1.0, 1.0]
    assert looks.pointing(masks.float(), masks).tolist() == [True, True]
    assert looks.overlap(1 - masks.float(), masks).tolist() == [0.0, 0.0]
    assert not looks.pointing(1 - masks.float(), masks).any()


def test_a_word_is_trained_as_the_node_does(exam, own_folders):
    feature = exam.hear(["bell"])[0]
    pictures = np.stack([draw(Scene(thing="bell", seed=k))[0] for k in range(2)])
    token, seconds = words.train(exam, feature, pictures, steps=2, bridge="none")
    assert torch.allclose(token.audio_feature, feature) and seconds > 0
    alone, _ = words.train(exam, feature, pictures, steps=2, mode="adapter_only", bridge="none", start="random")
    assert not any(alone.scales.values())
