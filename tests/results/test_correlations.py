"""How far instruments agree, on journals in which that is known."""

import math
import random
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from taskcluster.metrics import Metric, catalogue
from taskcluster.results.cells import as_text
from taskcluster.results.correlations import ALL, LAST, agreements_of, pooled
from taskcluster.results.intervals import Interval, interval

KEYS = ("one", "same", "opposite", "other")
METRICS = [Metric(key, key, low=0, high=1, views=("instruments",)) for key in KEYS]
STEPS, LAYERS = (0, 5, 10), 4


def journal(seed: int) -> list[dict[str, Any]]:
    """`same` rises with `one`, `opposite` falls, `other` has nothing to do with it and many ties."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = [{"step": step} for step in STEPS]
    for row in rows:
        for layer in range(LAYERS):
            value = rng.random()
            values = (value, value**3, 1 - value / 2, rng.choice((0.2, 0.4, 0.6)))
            row |= {f"{key}/val/layer_{layer}": number for key, number in zip(KEYS, values, strict=True)}
    return rows


def correlations(*journals: list[dict[str, Any]]) -> dict[tuple[str, ...], Interval]:
    return {agreement[:3]: agreement.correlation for agreement in agreements_of(journals, catalogue(METRICS))}


def spearman(rows: list[dict[str, Any]], kept: slice = slice(None)) -> float:
    """Of `one` and `other` in these cells."""
    columns = [[row[f"{key}/val/layer_{k}"] for row in rows for k in range(LAYERS)] for key in ("one", "other")]
    return float(spearmanr(*(column[kept] for column in columns)).statistic)


def test_what_rises_together_agrees_and_what_falls_disagrees() -> None:
    agreed = correlations(journal(0), journal(1), journal(2))
    assert len(agreed) == 2 * 6
    for over, cells in ((ALL, 12), (LAST, 4)):
        nearly = 1 - 3 / (cells * (cells**2 - 1))
        assert agreed["one", "same", over].mean == pytest.approx(nearly)
        assert agreed["one", "opposite", over].mean == pytest.approx(-nearly)


@pytest.mark.parametrize(("over", "kept"), [(ALL, slice(None)), (LAST, slice(-LAYERS, None))])
def test_correlations_are_averaged_as_fishers_z(over: str, kept: slice) -> None:
    journals = [journal(seed) for seed in range(4)]
    z = interval([math.atanh(spearman(rows, kept)) for rows in journals])
    ends = np.tanh([z.lower, z.upper])
    expected = ends if np.ptp(ends) <= 1.2 else [math.nan, math.nan]  # over more than 60 % of the range
    n, mean, _, lower, upper = correlations(*journals)["one", "other", over]
    assert (n, mean) == (4, pytest.approx(math.tanh(z.mean)))
    assert [lower, upper] == pytest.approx(expected, nan_ok=True)


def test_cells_in_which_one_was_not_measured_do_not_count() -> None:
    rows = journal(0)
    expected = {ALL: spearman(rows, slice(1, 8)), LAST: spearman(rows, slice(4, 8))}
    for key in [key for key in rows[-1] if key.startswith("other/")]:  # measured less often
        del rows[-1][key]
    rows[0]["other/val/layer_0"] = None
    agreed = correlations(rows)
    for over, correlation in expected.items():
        assert agreed["one", "other", over].mean == pytest.approx(correlation)
        assert math.isnan(agreed["one", "other", over].lower)  # of one run


def test_constant_and_few_instruments_have_no_correlation() -> None:
    rows = [row | {f"same/val/layer_{k}": 0.5 for k in range(LAYERS)} for row in journal(0)]
    assert correlations(rows)["one", "same", ALL].n == 0
    assert agreements_of([journal(0)], catalogue(METRICS[:2])) == []


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([(1.0, 10)] * 3, "1.00 (the same in all runs)"),
        ([(-1.0, 10)] * 4, "-1.00 (the same in all runs)"),
        ([(1.0, 10)] * 2, "1.00 (too few runs)"),
        ([(0.9, 10), (-0.9, 10), (0.1, 10)], "0.03 (too few runs)"),
        ([(0.5, 4)], "0.50 (too few runs)"),
    ],
)
def test_correlations_that_tell_nothing_have_no_interval(runs: list[tuple[float, int]], text: str) -> None:
    assert as_text(pooled(runs), 2) == text
