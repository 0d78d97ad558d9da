"""Journals are averaged where the answer is known."""

import pytest
from planted import rows
from scipy.stats import t

from taskcluster.metrics import OWN, catalogue
from taskcluster.results.points import over_runs

KNOWN = catalogue(OWN)


def test_points_are_means_over_the_runs_that_have_the_step() -> None:
    journals = [rows(0.8), rows(0.9), rows(0.85), rows(0.7)[:2]]
    points = {(p["step"], p["metric"], p["split"], p["layer"]): p for p in over_runs(journals, KNOWN)}
    last = points[200, "ari", "val", 3]
    assert (last["n"], last["mean"]) == (3, pytest.approx(0.85))
    assert (last["runs"], last["least"], last["most"]) == (pytest.approx([0.8, 0.9, 0.85, None]), 0.8, 0.9)
    assert last["lower"] < 0.8 < 0.9 < last["upper"]
    assert points[50, "ari", "train", 3]["n"] == 4
    assert points[0, "accuracy", "val", None]["mean"] == 0


def test_simultaneous_intervals_are_wider_by_the_number_of_cells() -> None:
    points = over_runs([rows(ari) for ari in (0.8, 0.8, 0.85, 0.9, 0.9)], {})
    (last,) = [p for p in points if (p["step"], p["metric"], p["split"], p["layer"]) == (200, "ari", "val", 3)]
    assert last["cells"] == 5 * 4  # steps by layers
    for family, cells in (("", 1), ("_over_steps", 5), ("_over_layers", 4), ("_over_map", 20)):
        half = t.ppf(1 - 0.05 / 2 / cells, 4) * 0.05 / 5**0.5
        assert (last[f"lower{family}"], last[f"upper{family}"]) == pytest.approx((0.85 - half, 0.85 + half))
    accuracy = next(p for p in points if p["metric"] == "accuracy")
    assert accuracy["cells"] is accuracy["lower_over_map"] is None
