"""Charts of metrics beside what they are compared with."""

import math
import re
from pathlib import Path
from typing import Any

import planted
import pytest
import vl_convert
from planted import DECLARED, config, plant, rows

from taskcluster.metrics import ARI, ARI_WITHIN_X, OWN, Metric, catalogue, control
from taskcluster.pages import charts, comparison_charts, multirun_report
from taskcluster.results.contrasts import highest_beside
from taskcluster.results.correlations import agreements_of
from taskcluster.results.points import over_runs

UNTRAINED = control(ARI, "untrained", "baseline", "untrained network")
KNOWN = catalogue(DECLARED, [UNTRAINED])
BESIDE = {"val/ari_symbols": 0.33, **{f"ari_untrained/val/layer_{k}": 0.1 for k in range(4)}}
POINTS = [
    {"condition": name, **point}
    for name, ari in (("a", 0.8), ("b", 0.5))
    for point in over_runs([[*rows(ari)[:-1], rows(ari)[-1] | BESIDE]], KNOWN)
]
ALONE = [point for point in POINTS if point["condition"] == "a"]


def rules(svg: str) -> int:
    """How many dashed rules are drawn."""
    return len(re.findall("<line [^>]*stroke-dasharray", svg))


def test_a_number_is_a_rule_and_layers_are_a_line() -> None:
    specification = charts.condition_charts(ALONE, KNOWN)["baselines"].to_dict()
    values = specification["data"]["values"]
    assert {(v["metric"], v["layer"]) for v in values if v["split"] == "val"} == {
        ("ari_symbols", None), *((key, k) for key in ("ari", "ari_untrained") for k in range(4))
    }  # fmt: skip
    assert {v["step"] for v in values} == {200}
    svg = vl_convert.vegalite_to_svg(specification)
    for label in ("trained network", "bag of symbols", "untrained network", "at the separator"):
        assert f">{label}<" in svg
    assert rules(svg) == 1
    assert "NaN" not in svg


@pytest.mark.parametrize(("points", "panels"), [(ALONE, 1), (POINTS, 2)])
def test_charts_of_several_conditions_have_a_row_and_a_rule_for_each(points: list[dict], panels: int) -> None:
    made = charts.condition_charts(points, KNOWN)
    curves = vl_convert.vegalite_to_svg(made["ari"].to_dict())
    assert rules(vl_convert.vegalite_to_svg(made["baselines"].to_dict())) == rules(curves) == panels
    assert ">bag of symbols<" in curves
    assert ">null<" not in curves  # no layer of what has none


def test_metrics_without_baselines_have_no_chart_of_them() -> None:
    plain = [point for point in POINTS if "symbols" not in point["metric"] and "untrained" not in point["metric"]]
    assert not {"baselines", "nuisance"} & {*charts.condition_charts(plain, KNOWN)}


def test_the_highest_value_is_reported_with_the_baselines_of_its_layer_and_their_highest() -> None:
    values = {"ari": (0.1, 0.3, 0.9, 0.8), "ari_untrained": (0.0, 0.84, 0.25, math.nan)}
    row = {f"{key}/val/layer_{k}": value for key, of_layers in values.items() for k, value in enumerate(of_layers)}
    said = highest_beside(row | {"val/ari_symbols": 0.33}, KNOWN, ARI)
    assert said.startswith("ARI at the separator, highest: 0.90 at layer 2 (")
    assert "untrained network 0.25, highest 0.84 at layer 1" in said
    assert "bag of symbols 0.33" in said
    undefined = {f"{key}/val/layer_{k}": math.nan for key in values for k in range(4)}
    assert "highest: - at layer 0 (untrained network -)" in highest_beside(undefined, KNOWN, ARI)


FALLING = Metric("falling", "falling", "at x", position="input", low=0, high=1, views=("instruments",))
WITH_FALLING = catalogue(OWN, [FALLING])


def journals(*aris: float) -> list[list[dict[str, Any]]]:
    return [
        [row | {f"falling/val/layer_{k}": 1 - row[f"ari/val/layer_{k}"] for k in range(4)} for row in rows(ari)]
        for ari in aris
    ]


CONDITIONS = {"a": journals(0.8, 0.9), "b": journals(0.5)}
INSTRUMENTS = [{"condition": name, **p} for name, of in CONDITIONS.items() for p in over_runs(of, WITH_FALLING)]
CHARTS = comparison_charts.instrument_charts(
    INSTRUMENTS, {name: agreements_of(of, WITH_FALLING) for name, of in CONDITIONS.items()}, WITH_FALLING
)


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
    points = [point for point in INSTRUMENTS if point["metric"] != "falling"]
    assert comparison_charts.instrument_charts(points, {}, WITH_FALLING) == {}


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
