"""Figures of a study beside references: SciPy, the package krippendorff, brute force, G*Power, simulation."""

from __future__ import annotations

import itertools
import math

import krippendorff
import numpy as np
import pytest
from aai_pack.aai_models.study import statistics
from scipy import stats


def ratings(seed: int, missing: float, people: int = 9, units: int = 25) -> np.ndarray:
    """Generated answers 1..5 of people who agree somewhat, some of them missing."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 6, units)
    found = np.clip(truth + rng.integers(-1, 2, (people, units)), 1, 5).astype(float)
    found[rng.random(found.shape) < missing] = np.nan
    return found


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_alpha_equals_the_reference(seed, missing, level):
    found = ratings(seed, missing)
    expected = krippendorff.alpha(reliability_data=found, level_of_measurement=level)
    assert statistics.krippendorff_alpha(found, level) == pytest.approx(expected, abs=1e-12)


def test_alpha_of_few_answers_is_no_traceback():
    assert math.isnan(statistics.krippendorff_alpha(np.full((2, 3), np.nan), "ordinal"))
    assert math.isnan(statistics.krippendorff_alpha(np.array([[1.0, np.nan], [np.nan, 2.0]]), "nominal"))
    assert math.isnan(statistics.krippendorff_alpha(np.full((3, 4), 2.0), "nominal")), "no variety, nothing to agree on"
    assert statistics.krippendorff_alpha(np.array([[1.0, 2.0], [1.0, 2.0]]), "nominal") == 1.0


def test_student_s_interval_equals_scipy_s():
    x = np.random.default_rng(0).normal(3, 1, 17)
    found = statistics.t_interval(list(x))
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.count == 17


def test_the_bootstrap_covers_what_it_should():
    """Of 300 samples with a known mean, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(300):
        found = statistics.bootstrap_interval(list(rng.normal(2, 1, 30)), seed)
        hits += found.low <= 2 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.parametrize("count", [2, 5, 10])
def test_sign_flips_equal_brute_force(count):
    x = np.random.default_rng(count).normal(0.4, 1, count)
    all_means = [np.mean(x * flips) for flips in itertools.product((1, -1), repeat=count)]
    expected = np.mean([abs(m) >= abs(x.mean()) - 1e-12 for m in all_means])
    assert statistics.sign_flip_p(list(x)) == pytest.approx(expected)


def test_sign_flips_of_many_agree_with_the_t_test():
    x = np.random.default_rng(3).normal(0.3, 1, 60)
    assert statistics.sign_flip_p(list(x)) == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.01)
    assert statistics.sign_flip_p([0.0] * 8) == 1.0
    assert math.isnan(statistics.sign_flip_p([1.0]))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(statistics.holm([0.01, math.nan])[1])


def test_pairs_are_compared_over_what_both_have():
    table = {"a": {1: 4.0, 2: 5.0, 3: 4.5}, "b": {1: 3.0, 2: 3.0, 9: 1.0}}
    (pair,) = statistics.compare_pairs(table)
    assert (pair.difference, pair.count) == (1.5, 2)


@pytest.mark.parametrize("effect, count", [(0.2, 199), (0.3, 90), (0.5, 34), (0.8, 15)])
def test_the_size_of_a_study_is_that_of_g_power(effect, count):
    """G*Power 3.1: difference between two dependent means, two tails, alpha 0.05, power 0.8."""
    assert statistics.participants_needed(effect) == count


def test_power_agrees_with_a_simulation():
    x = np.random.default_rng(5).normal(0.5, 1, (4000, 34))
    found = (stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05).mean()
    assert statistics.power_of(34, 0.5, 0.05) == pytest.approx(found, abs=0.02)
