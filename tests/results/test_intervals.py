"""Intervals over few runs, alone and simultaneous, where they are known or how often they cover."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from taskcluster.results.bootstrap import sup_t
from taskcluster.results.cells import as_text
from taskcluster.results.intervals import (
    UNBOUNDED,
    critical,
    interval,
    intervals,
    limits,
    moments,
    simultaneous,
    widening,
)

EXPERIMENTS = 2000
STEPS = 7


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found[:3] == (3, 2.0, 1.0)
    half = 4.302652729911275 / math.sqrt(3)  # t for two degrees of freedom, from a table
    assert found[3:] == pytest.approx((2 - half, 2 + half))
    assert interval([1.0, math.nan, 3.0, 2.0]) == found  # what is undefined does not count
    assert np.isnan(interval([])[1:]).all()


@pytest.mark.parametrize(
    ("values", "within"),
    [
        ([0.5], (0, 1)),
        ([0.998, 0.2], (-math.inf, 1)),
        ([0.5, 0.5], UNBOUNDED),
        ([0.01, 0.5, 0.99], (0, 1)),
        ([10.0, 190.0, 100.0], (0, 200)),
        ([0.01, 0.02, 3.0], (0, math.inf)),
        ([1.0, 1.0, -5.0, 1.0, 1.0], (-math.inf, 1)),
        ([1e300, -1e300, 0.0], UNBOUNDED),
        ([math.inf, 1.0, 2.0], (0, math.inf)),
    ],
)
def test_an_interval_that_says_nothing_is_absent(values: list[float], within: tuple[float, float]) -> None:
    found = interval(values, within)
    assert np.isnan(found[3:]).all()
    assert math.isfinite(found.mean)
    assert as_text(found).endswith("(too few runs)")


@pytest.mark.parametrize("n_runs", [3, 12])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_runs_have_an_interval_of_no_length(n_runs: int, value: float) -> None:
    found = interval([value] * n_runs, (0, 1))
    assert found[1:] == (value, 0, value, value)
    assert as_text(found) == f"{value:.3f} (the same in all runs)"


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
        if math.isfinite(high - low):
            assert upper - lower <= 0.6 * (high - low)
        else:
            assert max(upper - mean, mean - lower) <= 10 * sd


@pytest.mark.parametrize(("n_runs", "cells"), [(3, 7), (5, 77), (9, 300)])
def test_intervals_of_many_cells_are_students_at_bonferronis_level(n_runs: int, cells: int) -> None:
    values = np.random.default_rng(0).normal(0, 1, n_runs)
    found = interval(values.tolist(), cells=cells)
    error = found.sd / n_runs**0.5
    assert found[3:] == pytest.approx(t.interval(1 - 0.05 / cells, n_runs - 1, values.mean(), error))
    assert found.upper - found.mean == pytest.approx(widening(n_runs, cells) * t.ppf(0.975, n_runs - 1) * error)


def test_intervals_are_longer_away_from_the_bound() -> None:
    bounded = interval([0.9, 0.98, 1.0], within=(0, 1))
    assert interval([0.9, 0.98, 1.0]).upper > 1 > bounded.upper
    assert bounded.mean - bounded.lower > bounded.upper - bounded.mean


def test_of_a_correlation_the_scale_is_fishers() -> None:
    found = interval([0.9, 0.7, 0.95, 0.8], within=(-1, 1))
    half = t.ppf(0.975, 3) * found.sd / 2 / (1 - found.mean**2)  # the error of z by the delta method
    middle = math.atanh(found.mean)
    assert found[3:] == pytest.approx((math.tanh(middle - half), math.tanh(middle + half)))


def test_of_one_bound_the_scale_is_the_logarithm() -> None:
    found = interval([0.1, 0.4, 0.2], within=(0, math.inf))
    half = t.ppf(0.975, 2) * found.sd / 3**0.5 / found.mean
    assert found[3:] == pytest.approx((found.mean * math.exp(-half), found.mean * math.exp(half)))
    mirrored = interval([-0.1, -0.4, -0.2], within=(-math.inf, 0))
    assert mirrored[3:] == pytest.approx((-found.upper, -found.lower))


@pytest.mark.parametrize(("n_runs", "absent"), [(3, 0.3), (5, 0.05), (10, 0.01), (25, 0)])
def test_intervals_of_skewed_rates_cover_the_mean(n_runs: int, absent: float) -> None:
    draws = np.random.default_rng(n_runs).beta(9, 1, (n_runs, EXPERIMENTS))
    lower, upper = intervals(draws, 0, 1)[3:]
    assert np.mean(np.isnan(lower)) <= absent
    assert np.mean(~(lower > 0.9) & ~(upper < 0.9)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("kind", ["independent", "walk"])
def test_a_band_covers_all_steps_of_curves(kind: str, n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(EXPERIMENTS, n, STEPS))
    labels, together, alone = np.zeros(n, dtype=int), 0, 0
    for curves in draws.cumsum(2) if kind == "walk" else draws:
        estimate = moments(curves, labels)
        times, _ = simultaneous(curves, labels, estimate, ["curve"] * STEPS)
        lower, upper = limits(estimate, times, -np.inf, np.inf)
        together += bool(((lower < 0) & (upper > 0)).all())
        alone += bool((np.abs(estimate.mean / estimate.error) < critical(n - 1)).all())
    assert together / EXPERIMENTS == pytest.approx(0.95, abs=0.02)
    assert alone / EXPERIMENTS < 0.87


def test_the_band_of_cells_that_depend_on_each_other_is_narrower() -> None:
    random = np.random.default_rng(0)
    labels, noise, common = np.zeros(20, dtype=int), random.normal(size=(20, 30)), random.normal(size=(20, 1))
    bonferroni = critical(19, 30)
    assert sup_t(common + 0.1 * noise, labels, 0.95) < 0.85 * bonferroni
    assert sup_t(noise, labels, 0.95) > 0.97 * bonferroni
    assert sup_t(common + 0 * noise, labels, 0.95) < 1.1 * critical(19)  # one number, thirty times


def test_few_runs_have_bonferronis_band_and_families_count_their_cells() -> None:
    values = np.random.default_rng(0).normal(size=(6, 5))
    values[1:, 4] = np.nan  # one run alone has no interval
    labels = np.zeros(6, dtype=int)
    times, cells = simultaneous(values, labels, moments(values, labels), ["a", "a", "a", "b", "b"])
    assert cells.tolist() == [3, 3, 3, 1, 1]
    assert times[:4] == pytest.approx(critical(5, [3, 3, 3, 1]))
    assert np.isnan(times[4])
