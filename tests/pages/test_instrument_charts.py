"""The charts of instruments hold the numbers they were given, and render."""

import re
from pathlib import Path
from typing import Any

import planted
import pytest
import vl_convert
from planted import config, plant, rows

from taskcluster.metrics import ARI, ARI_WITHIN_X, OWN, Metric, catalogue
from taskcluster.pages import multirun_report
from taskcluster.pages.comparison_charts import instrument_charts
from taskcluster.results.correlations import agreements_of
from taskcluster.results.points import over_runs

FALLING = Metric("falling", "falling", "at x", position="input", low=0, high=1, views=("instruments",))
KNOWN = catalogue(OWN, [FALLING])


def journals(*aris: float) -> list[list[dict[str, Any]]]:
    return [
        [row | {f"falling/val/layer_{k}": 1 - row[f"ari/val/layer_{k}"] for k in range(4)} for row in rows(ari)]
        for ari in aris
    ]


CONDITIONS = {"a": journals(0.8, 0.9), "b": journals(0.5)}
POINTS = [{"condition": name, **p} for name, of in CONDITIONS.items() for p in over_runs(of, KNOWN)]
CHARTS = instrument_charts(POINTS, {name: agreements_of(of, KNOWN) for name, of in CONDITIONS.items()}, KNOWN)


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
    assert instrument_charts(points, {}, KNOWN) == {}


def test_the_report_has_the_charts_and_a_row_for_every_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "DECLARED", (*planted.DECLARED, FALLING))
    monkeypatch.setattr(planted, "rows", lambda ari, n_layer: journals(ari)[0])
    for seed, ari in enumerate((0.8, 0.9, 0.85)):
        plant(tmp_path / f"many/seed={seed}", ari, config(seed))
    multirun_report.write(tmp_path / "many")
    written = (tmp_path / "many/report/report.md").read_text()
    assert "![Instruments by layer" in written
    assert "(agreement.png)" in written
    table = written.split("## Do the instruments agree?")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]
    assert [row[:2] for row in cells] == [
        [ARI.title, ARI_WITHIN_X.title],
        [ARI.title, "falling at x"],
        [ARI_WITHIN_X.title, "falling at x"],
    ]
    assert cells[1][2:] == ["-1.00 (the same in all runs)", "-0.95 (the same in all runs)"]
