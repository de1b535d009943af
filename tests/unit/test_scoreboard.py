"""The scoreboard's arithmetic: intervals, likeness of pictures, where a thing is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from aai_pack.lab.scoreboard import board, figures, finder, likeness
from aai_pack.pocket.world.scene import Scene, draw
from PIL import Image


def test_the_interval_of_a_share_is_wilsons():
    low, high = figures.wilson(8, 10)  # Wilson 1927; the figures of any statistics package
    assert low == pytest.approx(0.4902, abs=1e-3) and high == pytest.approx(0.9433, abs=1e-3)
    assert figures.wilson(10, 10)[1] == pytest.approx(1.0) and figures.wilson(10, 10)[0] < 0.75


def test_pictures_of_one_word_are_no_independent_witnesses():
    right = [True] * 40 + [False] * 20 + [True] * 20
    of = np.repeat(np.arange(4), 20)
    alone, together = figures.share("x", right, "-"), figures.share("x", right, "-", of)
    assert alone.value == together.value == 0.75
    assert together.interval[1] - together.interval[0] > 2 * (alone.interval[1] - alone.interval[0])


def test_the_interval_of_a_mean_covers_it():
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    row = figures.mean("x", values, "-")
    assert row.interval[0] < 3.0 < row.interval[1] and row.interval[1] - row.interval[0] == pytest.approx(0.2, abs=0.05)


def test_spearman_knows_order_alone():
    x = [1, 2, 3, 4, 5]
    assert figures.spearman(x, [1, 8, 27, 64, 125]) == pytest.approx(1.0)
    assert figures.spearman(x, [5, 4, 3, 2, 1]) == pytest.approx(-1.0)
    assert figures.spearman(x, [2, 1, 4, 3, 5]) == pytest.approx(0.8)


def test_a_row_without_an_interval_is_written_as_such():
    cells = figures.Row("x", 0.5, (math.nan, math.nan), 7, "0.6", digits=1).cells()
    assert cells == ["x", "0.5", "-", "7", "0.6", "-", "-", "-"]


def test_psnr_counts_the_pixels_that_it_is_told_to():
    a = np.full((2, 16, 16, 3), 100, np.uint8)
    b = a.copy()
    b[:, :8] += 51  # a fifth of the range
    top, bottom = np.zeros((2, 16, 16), bool), np.zeros((2, 16, 16), bool)
    top[:, :8], bottom[:, 8:] = True, True
    assert likeness.psnr(a, b, top) == pytest.approx(20 * math.log10(5), abs=1e-4)
    assert likeness.psnr(a, b, bottom) == pytest.approx(likeness.QUIET)
    assert np.isnan(likeness.psnr(a, b, np.zeros_like(top))).all()


def test_ssim_is_one_for_equal_pictures_and_falls_with_what_changes():
    rng = np.random.default_rng(0)
    a = draw(Scene(thing="cat", seed=1))[0][None]
    noisy = [np.clip(a + rng.normal(0, s, a.shape), 0, 255).astype(np.uint8) for s in (5, 20, 60)]
    values = [float(likeness.ssim(a, b)[0]) for b in (a, *noisy)]
    assert values[0] == pytest.approx(1.0, abs=1e-5) and values == sorted(values, reverse=True) and values[-1] < 0.6
    one, other = rng.integers(0, 256, (2, 1, 64, 64, 3), dtype=np.uint8)
    assert abs(likeness.ssim(one, other)[0]) < 0.1 and likeness.ssim(one, 255 - one)[0] < -0.8


def test_the_finders_mask_has_the_pictures_size_and_its_margin_grows():
    torch.manual_seed(0)
    found = finder.Finder().eval()
    pictures = np.stack([draw(Scene(thing=t, seed=2))[0] for t in ("dog", "bell", "train")])
    chances = finder.find(found, pictures)
    assert chances.shape == (3, 128, 128) and 0 <= chances.min() <= chances.max() <= 1
    near, far = (finder.outside(found, pictures, margin) for margin in (0, 12))
    assert near.dtype == bool and not (far & ~near).any()


def test_a_finder_learns_where_a_thing_is(tmp_path, monkeypatch):
    monkeypatch.setattr(finder, "STEPS", 40)
    untrained = finder.overlap(finder.Finder().eval(), 40)
    learned = finder.load_finder(tmp_path)
    assert finder.overlap(learned, 40) > untrained + 0.1
    again = finder.load_finder(tmp_path)  # read, not trained
    assert all(torch.equal(a, b) for a, b in zip(learned.parameters(), again.parameters(), strict=True))


def test_sheets_are_saved_large_and_small(tmp_path):
    pictures = np.stack([np.full((128, 128, 3), 2 * k, np.uint8) for k in range(100)])
    row = figures.Row("x", 0.5, (0.4, 0.6), 100, "-", sheet=(pictures, [str(k) for k in range(100)]))
    board.save_sheet(row, tmp_path, "any")
    row.together = 7
    board.save_sheet(row, tmp_path, "lines")
    for path, columns, side in (("any.png", 9, 128), ("lines.png", 7, 128), ("small/any.png", 9, 94)):
        with Image.open(tmp_path / path) as sheet:
            assert sheet.width == columns * (side + 8) + 8
    board.save_world(tmp_path / "small" / "world.png")
    with Image.open(tmp_path / "small" / "world.png") as world:
        assert world.size == (1152, 576)
