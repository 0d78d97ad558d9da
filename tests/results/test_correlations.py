"""How far instruments agree, on journals in which that is known."""

import math
import random
from typing import Any

import pytest
from scipy.stats import spearmanr

from taskcluster.metrics import Metric, catalogue
from taskcluster.results.cells import as_text
from taskcluster.results.correlations import ALL, LAST, Agreement, agreements_of, pooled
from taskcluster.results.intervals import interval

KEYS = ("one", "same", "opposite", "other")
METRICS = [Metric(key, key, low=0, high=1, views=("instruments",)) for key in KEYS]
KNOWN = catalogue(METRICS)
STEPS, LAYERS = (0, 5, 10), 4


def journal(seed: int) -> list[dict[str, Any]]:
    """`same` rises with `one`, `opposite` falls, `other` has nothing to do with it and many ties."""
    rng, rows = random.Random(seed), []
    for step in STEPS:
        row: dict[str, Any] = {"step": step}
        for layer in range(LAYERS):
            value = rng.random()
            values = (value, value**3, 1 - value / 2, rng.choice((0.2, 0.4, 0.6)))
            row |= {f"{key}/val/layer_{layer}": number for key, number in zip(KEYS, values, strict=True)}
        rows.append(row)
    return rows


def between(found: list[Agreement], metric: str, other: str, over: str) -> Any:
    (agreement,) = (a for a in found if (a.metric, a.other, a.over) == (metric, other, over))
    return agreement.correlation


def test_what_rises_together_agrees_and_what_falls_disagrees() -> None:
    found = agreements_of([journal(0), journal(1), journal(2)], KNOWN)
    assert len(found) == 2 * 6
    for over, cells in ((ALL, 12), (LAST, 4)):
        nearly = 1 - 3 / (cells * (cells**2 - 1))
        assert between(found, "one", "same", over).mean == pytest.approx(nearly)
        assert between(found, "one", "opposite", over).mean == pytest.approx(-nearly)
        assert all(
            math.isnan(c.lower) or -1 <= c.lower <= c.mean <= c.upper <= 1 for c in (a.correlation for a in found)
        )


def test_correlations_are_scipys_averaged_as_fishers_z() -> None:
    journals = [journal(seed) for seed in range(4)]
    found = agreements_of(journals, KNOWN)
    for over, rows in ((ALL, slice(None)), (LAST, slice(-1, None))):
        columns = [
            [[row[f"{key}/val/layer_{k}"] for row in rows_of[rows] for k in range(LAYERS)] for key in ("one", "other")]
            for rows_of in journals
        ]
        z = interval([math.atanh(spearmanr(*pair).statistic) for pair in columns])
        ends = (math.tanh(z.lower), math.tanh(z.upper))
        own = between(found, "one", "other", over)
        assert (own.n, own.mean) == (4, pytest.approx(math.tanh(z.mean)))
        expected = ends if ends[1] - ends[0] <= 1.2 else (math.nan, math.nan)
        assert (own.lower, own.upper) == pytest.approx(expected, nan_ok=True)


def test_cells_in_which_one_was_not_measured_do_not_count() -> None:
    rows = journal(0)
    for key in [key for key in rows[-1] if key.startswith("other/")]:  # measured less often
        del rows[-1][key]
    rows[1]["other/val/layer_0"] = None
    found = agreements_of([rows], KNOWN)
    kept = [(row, k) for row, k in ((row, k) for row in rows[:2] for k in range(LAYERS)) if (row["step"], k) != (5, 0)]
    columns = [[row[f"{key}/val/layer_{k}"] for row, k in kept] for key in ("one", "other")]
    assert between(found, "one", "other", ALL).mean == pytest.approx(spearmanr(*columns).statistic)
    columns = [column[-3:] for column in columns]
    assert between(found, "one", "other", LAST).mean == pytest.approx(spearmanr(*columns).statistic)


def test_one_run_has_no_interval_and_a_constant_metric_no_correlation() -> None:
    rows = [row | {f"same/val/layer_{k}": 0.5 for k in range(LAYERS)} for row in journal(0)]
    found = agreements_of([rows], KNOWN)
    assert math.isnan(between(found, "one", "other", ALL).lower)
    assert math.isfinite(between(found, "one", "other", ALL).mean)
    assert between(found, "one", "same", ALL).n == 0


def test_two_instruments_are_too_few_to_compare() -> None:
    assert agreements_of([journal(0)], catalogue(METRICS[:2])) == []


def test_perfect_agreement_of_every_run_has_an_interval_of_no_width() -> None:
    found = pooled([(1.0, 10), (1.0, 10), (1.0, 10)])
    assert found.lower == pytest.approx(found.upper) == pytest.approx(1, abs=0.01)
    assert as_text(found, 2) == "1.00 (the same in all runs)"
    assert as_text(pooled([(-1.0, 10)] * 4), 2) == "-1.00 (the same in all runs)"


@pytest.mark.parametrize(
    "correlations", [[(1.0, 10)] * 2, [(0.3, 10), (0.4, 10)], [(0.9, 10), (-0.9, 10), (0.1, 10)], [(0.5, 4)]]
)
def test_correlations_that_tell_nothing_have_no_interval(correlations: list[tuple[float, int]]) -> None:
    found = pooled(correlations)
    assert math.isnan(found.lower)
    assert as_text(found, 2).endswith("(too few runs)")
