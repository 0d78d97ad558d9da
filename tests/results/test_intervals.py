"""Intervals over few runs: known values, and coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from taskcluster.results.cells import as_text
from taskcluster.results.intervals import UNBOUNDED, interval, interval_of_each, intervals

EXPERIMENTS = 2000


def coverage(draws: np.ndarray, truth: float, *within: float, task_sets: tuple[int, ...] = ()) -> float:
    """The share of intervals that do not miss the mean, over columns of draws (R, EXPERIMENTS)."""
    *_, lower, upper = intervals(draws, *within, task_sets=task_sets)
    return float(np.mean(~(lower > truth) & ~(upper < truth)))


def test_an_interval_is_students() -> None:
    made = interval([1.0, 2.0, 3.0])
    assert made[:3] == (3, 2.0, 1.0)
    half = 4.302652729911275 / math.sqrt(3)  # t for two degrees of freedom, from a table
    assert made[3:] == pytest.approx((2 - half, 2 + half))
    assert interval([1.0, math.nan, 3.0, 2.0]) == made  # what is undefined does not count
    assert np.isnan(interval([])[1:]).all()


def test_intervals_of_many_samples_are_those_of_each() -> None:
    samples = [
        [0.1, 0.5, 0.4],
        [0.9],
        [0.2, math.nan, 0.3],
        [],
        [0.7, 0.8, 0.7, 0.9, 0.8, 0.6, 0.7, 0.9],
        [3.0, 4.0, 6.0],
    ]
    within = [(0, 1), (0, 1), (-math.inf, 1), UNBOUNDED, (0, 1), UNBOUNDED]
    task_sets = ["abc", "a", "abc", "", "aaaabbbb", "aaa"]
    together = interval_of_each(samples, within, 4, task_sets)
    each = [interval(*one, 4, sets) for *one, sets in zip(samples, within, task_sets, strict=True)]
    np.testing.assert_array_equal(np.array(together), np.array(each))


@pytest.mark.parametrize(
    ("values", "within"),
    [
        ([0.5], (0, 1)),
        ([0.998, 0.2], (-math.inf, 1)),
        ([0.01, 0.5, 0.99], (0, 1)),
        ([10.0, 190.0, 100.0], (0, 200)),
        ([0.01, 0.02, 3.0], (0, math.inf)),
        ([1.0, 1.0, -5.0, 1.0, 1.0], (-math.inf, 1)),
        ([1e300, -1e300, 0.0], UNBOUNDED),
        ([math.inf, 1.0, 2.0], (0, math.inf)),
    ],
)
def test_an_uninformative_interval_is_absent(values: list[float], within: tuple[float, float]) -> None:
    made = interval(values, within)
    assert np.isnan(made[3:]).all()
    assert as_text(made).endswith("(too few runs)")


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_runs_have_an_interval_of_no_length(value: float) -> None:
    made = interval([value] * 12, (0, 1))
    assert made[1:] == (value, 0, value, value)
    assert as_text(made) == f"{value:.3f} (the same in all runs)"


@st.composite
def bounded_runs(draw: st.DrawFn) -> tuple[list[float], tuple[float, float]]:
    low = draw(st.sampled_from([-math.inf, -1.0, -0.5, 0.0]))
    high = draw(st.sampled_from([math.inf, 1.0, 200.0]))
    ends = st.sampled_from([max(low, -2.0), min(high, 2.0), max(low, -2.0) + 1e-12, min(high, 2.0) - 1e-12])
    value = st.floats(max(low, -1e9), min(high, 1e9)) | ends | st.just(math.nan)
    return draw(st.lists(value, min_size=1, max_size=14)), (low, high)


@settings(max_examples=300, deadline=None)
@given(bounded_runs(), st.sampled_from([1, 5, 300]))
def test_an_interval_is_in_its_range_and_around_the_mean_or_absent(
    runs: tuple[list[float], tuple[float, float]], cells: int
) -> None:
    values, (low, high) = runs
    n, mean, sd, lower, upper = interval(values, (low, high), cells)
    assert n == 0 or low <= mean <= high
    assert math.isnan(lower) == math.isnan(upper)
    if not math.isnan(lower):
        assert n >= 3
        assert low <= lower <= mean <= upper <= high
        bounded = math.isfinite(high - low)
        assert upper - lower <= 0.6 * (high - low) if bounded else max(upper - mean, mean - lower) <= 10 * sd


@pytest.mark.parametrize(("n_runs", "cells"), [(3, 7), (5, 77), (12, 300)])
def test_intervals_of_many_cells_are_at_bonferronis_level(n_runs: int, cells: int) -> None:
    values = np.random.default_rng(0).normal(0, 1, n_runs)
    made = interval(values.tolist(), cells=cells)
    error = made.sd / n_runs**0.5
    assert made[3:] == pytest.approx(t.interval(1 - 0.05 / cells, n_runs - 1, values.mean(), error))


def test_the_scale_of_a_correlation_is_fishers() -> None:
    made = interval([0.9, 0.7, 0.95, 0.8], within=(-1, 1))
    half = t.ppf(0.975, 3) * made.sd / 2 / (1 - made.mean**2)  # the error of z by the delta method
    middle = math.atanh(made.mean)
    assert made[3:] == pytest.approx((math.tanh(middle - half), math.tanh(middle + half)))


def test_the_scale_of_one_bound_is_the_logarithm() -> None:
    made = interval([0.1, 0.4, 0.2], within=(0, math.inf))
    half = t.ppf(0.975, 2) * made.sd / 3**0.5 / made.mean
    assert made[3:] == pytest.approx((made.mean * math.exp(-half), made.mean * math.exp(half)))
    mirrored = interval([-0.1, -0.4, -0.2], within=(-math.inf, 0))
    assert mirrored[3:] == pytest.approx((-made.upper, -made.lower))


@pytest.mark.parametrize("n_runs", [3, 5, 10, 25])
def test_intervals_of_skewed_rates_cover_the_mean(n_runs: int) -> None:
    draws = np.random.default_rng(n_runs).beta(9, 1, (n_runs, EXPERIMENTS))
    assert coverage(draws, 0.9, 0, 1) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("sizes", [(5, 5), (5, 5, 5, 5, 5)])
def test_runs_that_share_task_sets_have_intervals_about_these_task_sets(sizes: tuple[int, ...]) -> None:
    random, task_sets = np.random.default_rng(0), np.repeat(range(len(sizes)), sizes)
    means = np.linspace(0.6, 1, len(sizes))[task_sets][:, None]  # which differ by much more than runs of one set
    draws = means + random.normal(0, 0.01, (len(task_sets), EXPERIMENTS))
    assert coverage(draws, means.mean(), task_sets=tuple(task_sets)) == pytest.approx(0.95, abs=0.02)
    column = draws[:, 0].tolist()
    made, plain = interval(column, task_sets=task_sets.tolist()), interval(column)
    assert made.upper - made.lower < (plain.upper - plain.lower) / 3
    assert interval(column[:7], task_sets=task_sets[:7].tolist()) == interval(column[:7])  # too few of the second
