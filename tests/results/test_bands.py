"""Bands hold in all of their cells at once, as often as they say, and are no wider than Bonferroni's."""

import numpy as np
import pytest
from taskcluster.results.bands import sup_t, together
from taskcluster.results.statistics import critical, limits, moments

STEPS = 7
EXPERIMENTS = 2000


def curves_of(kind: str, n: int) -> np.ndarray:
    """Curves (EXPERIMENTS, n, STEPS) around 0."""
    draws = np.random.default_rng(n).normal(size=(EXPERIMENTS, n, STEPS))
    return np.asarray(draws.cumsum(2) if kind == "walk" else draws)


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("kind", ["independent", "walk"])
def test_a_band_covers_all_steps_of_curves(kind: str, n: int) -> None:
    labels, held, alone = np.zeros(n, dtype=int), 0, 0
    for curves in curves_of(kind, n):
        found = moments(curves, labels)
        times, _ = together(curves, labels, found, ["curve"] * STEPS)
        largest = np.abs(found.mean / found.error)
        lower, upper = limits(found, times, -np.inf, np.inf)
        held += bool(((lower < 0) & (upper > 0)).all())
        alone += bool((largest < critical(n - 1)).all())
    assert held / EXPERIMENTS == pytest.approx(0.95, abs=0.02)
    assert alone / EXPERIMENTS < 0.87


def test_the_band_of_cells_that_depend_on_each_other_is_narrower() -> None:
    random = np.random.default_rng(0)
    labels, own = np.zeros(20, dtype=int), random.normal(size=(20, 30))
    common = random.normal(size=(20, 1))
    bonferroni = critical(19, 30)
    assert sup_t(common + 0.1 * own, labels) < 0.85 * bonferroni
    assert 0.97 * bonferroni < sup_t(own, labels) <= bonferroni
    assert sup_t(common + 0 * own, labels) < 1.1 * critical(19)  # one number, thirty times


def test_few_runs_have_bonferronis_band_and_families_their_own_number_of_cells() -> None:
    values = np.random.default_rng(0).normal(size=(6, 5))
    values[1:, 4] = np.nan  # one run alone has no interval
    labels = np.zeros(6, dtype=int)
    times, cells = together(values, labels, moments(values, labels), ["a", "a", "a", "b", "b"])
    assert cells.tolist() == [3, 3, 3, 1, 1]
    assert times[:4] == pytest.approx(critical(5, [3, 3, 3, 1]))
    assert np.isnan(times[4])
