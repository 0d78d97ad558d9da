"""Resampled runs: intervals cover as often as they say, and are the same for the same runs."""

import numpy as np
import pytest
from scipy.stats import beta, trim_mean

from taskcluster.results.bootstrap import MANY, interquartile_means, strata, studentized
from taskcluster.results.intervals import interval, intervals

EXPERIMENTS = 2000
ONE = np.zeros(100, dtype=int)


def covers(ends: np.ndarray, truth: float) -> float:
    return float(np.mean((ends[0] < truth) & (ends[1] > truth)))


@pytest.mark.parametrize("n", [10, 25])
def test_the_bootstrap_covers_the_mean_of_normal_runs(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.9, 0.03, (n, EXPERIMENTS))
    assert covers(studentized(draws, ONE[:n]), 0.9) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("sizes", [(5, 5), (5, 5, 5, 5, 5)])
def test_strata_are_the_task_sets_that_the_interval_is_about(sizes: tuple[int, ...]) -> None:
    """Task sets differ by much more than the runs of one."""
    random, labels = np.random.default_rng(0), np.repeat(range(len(sizes)), sizes)
    of_sets = np.linspace(0.6, 1, len(sizes))[labels][:, None]
    draws = of_sets + random.normal(0, 0.01, (len(labels), EXPERIMENTS))
    assert covers(studentized(draws, labels), of_sets.mean()) == pytest.approx(0.95, abs=0.02)
    stratified, plain = studentized(draws, labels), studentized(draws, 0 * labels)
    assert np.mean(stratified[1] - stratified[0]) < np.mean(plain[1] - plain[0]) / 3


@pytest.mark.parametrize("n", [10, 25])
@pytest.mark.parametrize("b", [1, 6])
def test_the_interval_of_the_interquartile_mean_covers_it(n: int, b: int) -> None:
    of = beta(9 if b == 1 else 84, b)
    truth = 2 * of.expect(lambda x: x, lb=of.ppf(0.25), ub=of.ppf(0.75))
    found = interquartile_means(of.rvs((n, EXPERIMENTS), random_state=n), ONE[:n])
    assert covers(found[1:], truth) == pytest.approx(0.95, abs=0.02)


def test_the_interquartile_mean_is_rliables() -> None:
    draws = np.random.default_rng(0).normal(size=(13, 4))
    assert interquartile_means(draws, ONE[:13])[0] == pytest.approx(trim_mean(draws, 0.25))
    assert np.isnan(interquartile_means(draws[: MANY - 1], ONE[: MANY - 1])).all()


def test_strata_count_for_the_interquartile_mean_too() -> None:
    labels = np.repeat([0, 1], 6)
    draws = np.random.default_rng(0).normal(labels[:, None], 0.01, (12, 3))
    stratified, plain = interquartile_means(draws, labels), interquartile_means(draws, 0 * labels)
    assert stratified[0] == pytest.approx(plain[0])
    assert (stratified[2] - stratified[1] < (plain[2] - plain[1]) / 3).all()


def test_the_interval_depends_on_the_values_of_these_runs_alone() -> None:
    draws = np.random.default_rng(0).normal(size=(14, 300))
    draws[[1, 5], 7] = np.nan  # which do not count
    _, _, _, lower, upper = intervals(draws)
    alone = interval(draws[np.isfinite(draws[:, 7]), 7].tolist())
    assert alone[3:] == pytest.approx((lower[7], upper[7]), abs=1e-5)
    assert interval(draws[:, 8].tolist()) == interval(draws[:, 8].tolist())


def test_runs_that_are_mostly_equal_have_students_interval() -> None:
    found = interval([1.0] * 11 + [0.8], within=(-1, 1))
    assert -1 < found.lower < 0.983 < found.upper < 1


@pytest.mark.parametrize(
    ("task_sets", "labels"),
    [
        (["a"] * 4 + ["b"] * 4, [0] * 4 + [1] * 4),
        (["a"] * 4 + ["b"] * 3, [0] * 7),  # too few of b to say how much they vary
        (list("abcdefgh"), [0] * 8),
        ([], [0] * 3),
    ],
)
def test_task_sets_of_several_runs_are_strata(task_sets: list[str], labels: list[int]) -> None:
    assert strata(task_sets, len(labels)).tolist() == labels
