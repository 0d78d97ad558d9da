"""Estimates whose values are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t
from taskcluster.results.statistics import UNBOUNDED, components, emergence, interval, intervals, widening

from taskcluster.results.cells import as_text, ends


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    half = 4.302652729911275 / math.sqrt(3)  # t for two degrees of freedom, from a table
    assert (found.lower, found.upper) == pytest.approx((2 - half, 2 + half))


@pytest.mark.parametrize(
    ("values", "within"),
    [
        ([0.5], (0, 1)),
        ([0.998, 0.999], (0, 1)),
        ([0.998, 0.2], (-math.inf, 1)),
        ([2.0, 2.1], (0, math.inf)),
        ([0.5, 0.5], UNBOUNDED),
        ([0.01, 0.5, 0.99], (0, 1)),
        ([-0.9, 0.9, 0.1], (-1, 1)),
        ([10.0, 190.0, 100.0], (0, 200)),
        ([0.01, 0.02, 3.0], (0, math.inf)),
        ([1.0, 1.0, -5.0, 1.0, 1.0], (-math.inf, 1)),
        ([1e300, -1e300, 0.0], UNBOUNDED),
        ([math.nan, 1.0, 2.0], UNBOUNDED),
        ([math.inf, 1.0, 2.0], (0, math.inf)),
    ],
)
def test_an_interval_that_says_nothing_is_not_there(values: list[float], within: tuple[float, float]) -> None:
    found = interval(values, within)
    assert (math.isnan(found.lower), math.isnan(found.upper)) == (True, True)
    assert math.isfinite(found.mean)
    assert as_text(found).endswith("(too few runs)")
    assert ends(found) == "too few runs"


@pytest.mark.parametrize("n_runs", [3, 5, 12])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_of_runs_that_are_all_the_same_the_interval_has_no_length(n_runs: int, value: float) -> None:
    found = interval([value] * n_runs, (0, 1))
    assert found[1:] == (value, 0, value, value)
    assert as_text(found) == f"{value:.3f} (the same in all runs)"


def test_many_cells_of_few_runs_without_bounds_have_no_interval() -> None:
    values = [1.0, 1.1, 1.3]
    assert math.isfinite(interval(values, cells=7).lower)
    assert math.isnan(interval(values, cells=77).lower)


@st.composite
def bounded_runs(draw: st.DrawFn) -> tuple[list[float], tuple[float, float]]:
    low = draw(st.sampled_from([-math.inf, -1.0, -0.5, 0.0]))
    high = draw(st.sampled_from([math.inf, 1.0, 200.0]))
    value = st.floats(max(low, -1e9), min(high, 1e9)) | st.sampled_from([max(low, -2.0), min(high, 2.0)])
    return draw(st.lists(value | st.just(math.nan), min_size=1, max_size=14)), (low, high)


@settings(max_examples=400, deadline=None)
@given(bounded_runs(), st.sampled_from([1, 5, 300]))
def test_an_interval_is_finite_in_its_range_and_around_the_mean_or_absent(
    runs: tuple[list[float], tuple[float, float]], cells: int
) -> None:
    values, (low, high) = runs
    found = interval(values, (low, high), cells)
    if found.n:
        assert low <= found.mean <= high
    if math.isnan(found.lower) or math.isnan(found.upper):
        assert math.isnan(found.lower) == math.isnan(found.upper)
        return
    assert found.n >= 3
    assert low <= found.lower <= found.mean <= found.upper <= high
    assert math.isfinite(found.upper - found.lower)
    if math.isfinite(high - low):
        assert found.upper - found.lower <= 0.6 * (high - low)
    else:
        assert max(found.upper - found.mean, found.mean - found.lower) <= 10 * found.sd


def test_one_value_gives_no_interval_and_none_gives_nothing() -> None:
    assert interval([0.5])[:2] == (1, 0.5)
    assert all(map(math.isnan, interval([0.5])[2:]))
    assert interval([]).n == 0
    assert all(map(math.isnan, interval([])[1:]))


def test_what_is_not_a_number_does_not_count() -> None:
    assert interval([1.0, math.nan, 3.0, 2.5]) == interval([1.0, 3.0, 2.5])


@pytest.mark.parametrize("n_runs", [3, 5])
def test_the_interval_covers_the_mean_as_often_as_it_says(n_runs: int) -> None:
    draws = np.random.default_rng(0).normal(0.9, 0.02, (n_runs, 20_000))
    _, _, _, lower, upper = intervals(draws)
    assert np.mean((lower < 0.9) & (upper > 0.9)) == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(("n_runs", "cells"), [(3, 7), (5, 77), (9, 300)])
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
        if not math.isnan(found.lower):
            assert within[0] <= found.lower <= found.mean <= found.upper <= within[1]


@pytest.mark.parametrize(("n_runs", "absent"), [(3, 0.3), (5, 0.05), (9, 0.01), (10, 0.01), (15, 0), (25, 0)])
def test_intervals_of_skewed_rates_cover_the_mean(n_runs: int, absent: float) -> None:
    draws = np.random.default_rng(n_runs).beta(9, 1, (n_runs, 2000))
    lower, upper = intervals(draws, 0, 1)[3:]
    assert np.mean(np.isnan(lower)) <= absent
    assert np.mean(~(lower > 0.9) & ~(upper < 0.9)) == pytest.approx(0.95, abs=0.02)


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
    assert math.isnan(components([[0.8, 0.9], [0.7, 0.75]])[2])  # nor do two, of their s.d.
    means, within, between = components([[0.8, 0.9]])
    assert (means, within) == ([pytest.approx(0.85)], pytest.approx(math.sqrt(0.005)))
    assert math.isnan(between)
    assert components([[0.8], []])[0] == []
