"""Estimates whose values are known."""

import math

import numpy as np
import pytest
from scipy.stats import t

from taskcluster.results.statistics import components, emergence, interval, intervals, widening


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    half = 4.302652729911275 / math.sqrt(3)  # t for two degrees of freedom, from a table
    assert (found.lower, found.upper) == pytest.approx((2 - half, 2 + half))


def test_one_value_gives_no_interval_and_none_gives_nothing() -> None:
    assert interval([0.5])[:2] == (1, 0.5)
    assert all(map(math.isnan, interval([0.5])[2:]))
    assert interval([]).n == 0
    assert all(map(math.isnan, interval([])[1:]))


def test_what_is_not_a_number_does_not_count() -> None:
    assert interval([1.0, math.nan, 3.0]) == interval([1.0, 3.0])


@pytest.mark.parametrize("n_runs", [2, 3, 5])
def test_the_interval_covers_the_mean_as_often_as_it_says(n_runs: int) -> None:
    draws = np.random.default_rng(0).normal(0.9, 0.02, (n_runs, 20_000))
    _, _, _, lower, upper = intervals(draws)
    assert np.mean((lower < 0.9) & (upper > 0.9)) == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(("n_runs", "cells"), [(3, 7), (5, 77), (10, 300)])
def test_intervals_of_many_cells_are_students_at_bonferronis_level(n_runs: int, cells: int) -> None:
    values = np.random.default_rng(0).normal(0, 1, n_runs)
    found = interval(values.tolist(), cells=cells)
    assert found.upper - found.mean == pytest.approx(
        widening(n_runs, cells) * t.ppf(0.975, n_runs - 1) * found.sd / n_runs**0.5
    )
    low, high = t.interval(1 - 0.05 / cells, n_runs - 1, values.mean(), values.std(ddof=1) / n_runs**0.5)
    assert (found.lower, found.upper) == pytest.approx((low, high))


def test_intervals_stay_in_their_range_and_are_longer_away_from_the_bound() -> None:
    bounded = interval([0.9, 0.98, 1.0], within=(0, 1))
    assert interval([0.9, 0.98, 1.0]).upper > 1
    assert bounded.upper < 1
    assert bounded.mean - bounded.lower > bounded.upper - bounded.mean
    assert interval([1.0, 1.0, 1.0], within=(0, 1))[3:] == (1, 1)
    outside = interval([1.2, 1.2, 1.3], within=(0, 1))  # declared wrongly
    assert outside.lower < outside.mean == outside.upper


def test_of_a_correlation_the_scale_is_fishers() -> None:
    found = interval([0.9, 0.7, 0.95, 0.8], within=(-1, 1))
    half = t.ppf(0.975, 3) * found.sd / 2 / (1 - found.mean**2)  # the error of z by the delta method
    middle = math.atanh(found.mean)
    assert (found.lower, found.upper) == pytest.approx((math.tanh(middle - half), math.tanh(middle + half)))


def test_of_one_bound_the_scale_is_the_logarithm() -> None:
    found = interval([0.1, 0.4, 0.2], within=(0, math.inf))
    half = t.ppf(0.975, 2) * found.sd / 3**0.5 / found.mean
    assert (found.lower, found.upper) == pytest.approx((found.mean * math.exp(-half), found.mean * math.exp(half)))
    mirrored = interval([-0.1, -0.4, -0.2], within=(-math.inf, 0))
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower))


@pytest.mark.parametrize("within", [(0, 1), (-1, 1), (-0.5, 1), (0, math.inf), (-math.inf, 0)])
@pytest.mark.parametrize("n_runs", [2, 5, 12])
@pytest.mark.parametrize("cells", [1, 300])
def test_no_interval_leaves_its_range(within: tuple[float, float], n_runs: int, cells: int) -> None:
    low, high = (np.clip(end, -5, 5) for end in within)
    near = [low, high, low + 1e-12, high - 1e-12, (low + high) / 2]
    random = np.random.default_rng(0)
    for _ in range(200):
        found = interval(random.choice(near, n_runs).tolist(), within, cells)
        assert within[0] <= found.lower <= found.mean <= found.upper <= within[1]


@pytest.mark.parametrize("n_runs", [2, 3, 5, 9, 10, 15, 25])
def test_intervals_of_skewed_rates_cover_the_mean(n_runs: int) -> None:
    draws = np.random.default_rng(n_runs).beta(9, 1, (n_runs, 2000))
    lower, upper = intervals(draws, 0, 1)[3:]
    assert np.mean((lower < 0.9) & (upper > 0.9)) == pytest.approx(0.95, abs=0.02)


def test_a_curve_emerges_where_it_has_made_half_of_its_way() -> None:
    assert emergence([0, 100, 200], [0.0, 0.2, 1.0]) == pytest.approx(100 + 100 * 0.3 / 0.8)
    assert emergence([0, 100], [0.1, 0.9]) == 50
    assert math.isnan(emergence([0, 100], [0.5, 0.55]))
    assert math.isnan(emergence([0, 100], [math.nan, 0.9]))


def test_components_are_told_apart() -> None:
    random = np.random.default_rng(0)
    runs = random.normal(0.9, 0.03, (4000, 1)) + random.normal(0, 0.01, (4000, 10))
    means, within, between = components(runs.tolist())
    assert means == pytest.approx(runs.mean(1))
    assert (within, between) == pytest.approx((0.01, 0.03), rel=0.03)


def test_noise_of_kmeans_alone_leaves_nothing_to_training() -> None:
    runs = np.random.default_rng(0).normal(0.9, 0.01, (4000, 10))
    _, within, between = components(runs.tolist())
    assert within == pytest.approx(0.01, rel=0.03)
    assert between < 0.001


def test_one_run_says_nothing_of_training() -> None:
    means, within, between = components([[0.8, 0.9]])
    assert (means, within) == ([pytest.approx(0.85)], pytest.approx(math.sqrt(0.005)))
    assert math.isnan(between)
    assert components([[0.8], []])[0] == []
