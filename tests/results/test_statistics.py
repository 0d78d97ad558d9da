"""Estimates whose values are known."""

import math

import numpy as np
import pytest
from scipy.stats import t

from taskcluster.results.statistics import components, emergence, interval, intervals


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
    low, high = t.interval(1 - 0.05 / cells, n_runs - 1, values.mean(), values.std(ddof=1) / n_runs**0.5)
    assert (found.lower, found.upper) == pytest.approx((low, high))


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
def test_intervals_of_many_cells_cover_all_means_at_once_however_cells_depend(shared: float) -> None:
    """Experiments of five runs with 7 x 5 cells, whose correlation is `shared`."""
    random, (experiments, cells) = np.random.default_rng(0), (4000, 35)
    common, own = random.normal(size=(5, experiments, 1)), random.normal(size=(5, experiments, cells))
    draws = (shared**0.5 * common + (1 - shared) ** 0.5 * own).reshape(5, -1)

    def covered(together: int) -> float:
        lower, upper = intervals(draws, cells=together)[3:]
        return float(((lower < 0) & (upper > 0)).reshape(experiments, cells).all(1).mean())

    assert covered(cells) > 0.945  # 0.95 but for the 4000 draws
    assert covered(1) < 0.9


def test_intervals_are_cut_at_the_bounds_but_hold_the_mean() -> None:
    bounded = interval([0.9, 1.0, 1.0], within=(0, 1))
    free = interval([0.9, 1.0, 1.0])
    assert free.upper > 1
    assert (bounded.lower, bounded.upper) == (free.lower, 1)
    outside = interval([1.2, 1.2, 1.3], within=(0, 1))  # declared wrongly
    assert outside.lower < outside.mean == outside.upper


def test_a_bootstrap_covers_less() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0.9, 0.02, (2000, 5))
    means = np.take_along_axis(draws[:, None], random.integers(5, size=(2000, 400, 5)), axis=2).mean(2)
    lower, upper = np.quantile(means, (0.025, 0.975), axis=1)
    assert np.mean((lower < 0.9) & (upper > 0.9)) < 0.88


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
