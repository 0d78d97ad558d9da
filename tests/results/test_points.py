"""Journals are averaged where the answer is known."""

import pytest
from planted import rows
from scipy.stats import t

from taskcluster.metrics import OWN, catalogue
from taskcluster.results.points import over_runs

KNOWN = catalogue(OWN)
FAMILIES = ("", "_over_steps", "_over_layers", "_over_map")


def test_points_are_means_over_the_runs_that_have_the_step() -> None:
    journals = [rows(0.8), rows(0.9), rows(0.85), rows(0.7)[:2]]
    points = {(p["step"], p["metric"], p["split"], p["layer"]): p for p in over_runs(journals, KNOWN)}
    last = points[200, "ari", "val", 3]
    assert (last["n"], last["mean"]) == (3, pytest.approx(0.85))
    assert (last["runs"], last["least"], last["most"]) == (pytest.approx([0.8, 0.9, 0.85, None]), 0.8, 0.9)
    assert last["lower"] < 0.8 < 0.9 < last["upper"]
    assert points[50, "ari", "train", 3]["n"] == 4
    assert points[0, "accuracy", "val", None]["mean"] == 0


@pytest.mark.parametrize(("n_runs", "each"), [(1, False), (2, True), (5, False)])
def test_few_runs_have_no_interval_and_are_drawn_one_by_one(n_runs: int, each: bool) -> None:
    for point in over_runs([rows(0.5 + k / 10) for k in range(n_runs)], KNOWN):
        assert (point["runs"] is not None) is each
        if n_runs < 3:
            assert {point[f"{end}{family}"] for end in ("lower", "upper") for family in FAMILIES} == {None}


def test_simultaneous_intervals_are_wider_by_the_number_of_cells() -> None:
    points = over_runs([rows(ari) for ari in (0.8, 0.8, 0.85, 0.9, 0.9)], {})
    (last,) = [p for p in points if (p["step"], p["metric"], p["split"], p["layer"]) == (200, "ari", "val", 3)]
    assert last["cells"] == 5 * 4  # steps by layers
    for family, cells in (("", 1), ("_over_steps", 5), ("_over_layers", 4), ("_over_map", 20)):
        half = t.ppf(1 - 0.05 / 2 / cells, 4) * 0.05 / 5**0.5
        assert (last[f"lower{family}"], last[f"upper{family}"]) == pytest.approx((0.85 - half, 0.85 + half))
    accuracy = next(p for p in points if p["metric"] == "accuracy")
    assert accuracy["cells"] is accuracy["lower_over_map"] is None


def test_intervals_end_where_the_metric_does() -> None:
    points = over_runs([rows(ari) for ari in (0.5, 0.99, 0.9, 0.95)], KNOWN)
    for family in FAMILIES:
        there = [point for point in points if point[f"lower{family}"] is not None]
        assert len(there) > 20
        for p in there:
            low, high = KNOWN[p["metric"]].range
            assert low <= p[f"lower{family}"] <= p["mean"] <= p[f"upper{family}"] <= high
