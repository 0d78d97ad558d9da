"""The charts of instruments hold the numbers they were given, and render."""

import re
from typing import Any

import pytest
import vl_convert
from planted import rows

from taskcluster.metrics import ARI, ARI_WITHIN_X, OWN, Metric, catalogue
from taskcluster.pages import instruments
from taskcluster.results.aggregate import over_runs
from taskcluster.results.agreement import agreements_of

FALLING = Metric("falling", "falling", "at x", position="input", low=0, high=1, views=("instruments",))
KNOWN = catalogue(OWN, [FALLING])


def journals(*aris: float) -> list[list[dict[str, Any]]]:
    return [
        [row | {f"falling/val/layer_{k}": 1 - row[f"ari/val/layer_{k}"] for k in range(4)} for row in rows(ari)]
        for ari in aris
    ]


CONDITIONS = {"a": journals(0.8, 0.9), "b": journals(0.5)}
POINTS = [{"condition": name, **p} for name, of in CONDITIONS.items() for p in over_runs(of, KNOWN)]
CHARTS = instruments.of_conditions(POINTS, {name: agreements_of(of, KNOWN) for name, of in CONDITIONS.items()}, KNOWN)


def test_every_instrument_is_drawn_by_layer_at_the_last_step() -> None:
    values = CHARTS["instruments"].to_dict()["data"]["values"]
    assert {(v["metric"], v["step"]) for v in values} == {(metric.key, 200) for metric in (ARI, ARI_WITHIN_X, FALLING)}
    assert len(values) == 2 * 3 * 4
    svg = vl_convert.vegalite_to_svg(CHARTS["instruments"].to_dict())
    assert re.findall(">(at the separator|at x)<", svg) == ["at the separator", "at x"]


def test_the_map_has_both_halves_and_numbers() -> None:
    values = CHARTS["agreement"].to_dict()["data"]["values"]
    assert len(values) == 2 * 2 * 6  # conditions, what it is over, ordered pairs
    falls = {v["mean"] for v in values if {v["one"], v["other"]} == {"ARI at the separator", "falling at x"}}
    assert all(mean == pytest.approx(-1, abs=0.1) for mean in falls)
    svg = vl_convert.vegalite_to_svg(CHARTS["agreement"].to_dict())
    assert len(re.findall(r">.1\.00<|>.0\.\d\d<", svg)) >= 8  # with a minus sign
    assert "NaN" not in svg


def test_too_few_instruments_have_no_chart() -> None:
    points = [point for point in POINTS if point["metric"] != "falling"]
    assert instruments.of_conditions(points, {}, KNOWN) == {}
