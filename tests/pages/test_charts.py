"""Chart specifications contain the numbers they were given, and render."""

import re
from typing import Any

import altair
import pytest
import vl_convert
from planted import EFFECTS, rows

from taskcluster.metrics import ARI, OWN, Metric, catalogue
from taskcluster.pages import charts
from taskcluster.pages.live_charts import live_charts
from taskcluster.results.points import over_runs

KNOWN = catalogue(OWN)
ADDED, *EXCHANGED = EFFECTS


def points_of(**conditions: tuple[float, ...]) -> list[dict[str, Any]]:
    return [
        {"condition": name, **point}
        for name, aris in conditions.items()
        for point in over_runs([*map(rows, aris)], KNOWN)
    ]


POINTS = points_of(a=(0.8, 0.9, 0.85, 0.84, 0.83), b=(0.5,))
ALONE = [point for point in POINTS if point["condition"] == "a"]
FEW = points_of(a=(0.8, 0.9, 0.7))


def with_effects(points: list[dict[str, Any]], *effects: Metric) -> dict[str, Any]:
    """Charts of points in which effects are as large as the ARI."""
    more = [point | {"metric": effect.key} for point in points if point["metric"] == "ari" for effect in effects]
    return charts.condition_charts([*points, *more], catalogue(OWN, effects))


def values(chart: Any) -> list[dict[str, Any]]:
    return chart.to_dict()["data"]["values"]


def svg(chart: Any) -> str:
    return vl_convert.vegalite_to_svg(chart.to_dict())


def test_every_layer_of_both_splits_is_drawn_at_every_step() -> None:
    drawn = values(charts.condition_charts(POINTS, KNOWN)["ari"])
    assert len(drawn) == 2 * 2 * 4 * 5
    last = [v for v in drawn if (v["condition"], v["split"], v["step"], v["layer"]) == ("a", "val", 200, 3)]
    assert [v["mean"] for v in last] == [pytest.approx(0.844)]
    at_the_end = values(charts.condition_charts(POINTS, KNOWN)["ari_by_layer"])
    assert {(v["step"], v["metric"]) for v in at_the_end} == {(200, "ari"), (200, "ari_within_x")}


def test_only_bands_that_leave_their_axis_are_cut_off() -> None:
    drawn = charts.condition_charts(ALONE, KNOWN)
    assert svg(drawn["ari"]).count("fill-opacity") == 2 * 2 * 4  # two bands of each layer and split
    bands = {name: str(drawn[name].to_dict()).count("'clip': True") for name in ("ari", "learning")}
    assert bands == {"ari": 0, "learning": 2}  # of the loss, which has no upper end


def test_several_conditions_are_rows_with_horizontal_names() -> None:
    for name, chart in with_effects(points_of(first=(0.8,), second=(0.5,)), ADDED).items():
        if name in ("ari", "map"):
            turned = re.findall(r'<text [^>]*transform="([^"]*)"[^>]*>(?:first|second)</text>', svg(chart))
            assert turned
            assert not [transform for transform in turned if "rotate" in transform]
    assert "row" not in charts.condition_charts(ALONE, KNOWN)["ari"].to_dict()["facet"]


@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_renders_with_either_theme(dark: bool) -> None:
    for chart in with_effects(POINTS, *EFFECTS).values():
        drawn = vl_convert.vegalite_to_svg(chart.to_dict() | {"config": charts.theme(dark)})
        assert "layer" in drawn
        assert "NaN" not in drawn


def test_bands_are_drawn_for_many_runs_and_thin_lines_for_few() -> None:
    many, few, one = (charts.condition_charts(p, KNOWN) for p in (ALONE, FEW, points_of(b=(0.5,))))
    for name, lines in (("ari", 4 * 2), ("learning", 2 * 2)):
        assert svg(many[name]).count('fill-opacity="0.2"') == svg(many[name]).count('fill-opacity="0.07"') == lines
        assert svg(few[name]).count('stroke-width="0.8"') == 3 * lines
        assert 'stroke-width="0.8"' not in svg(many[name])
        assert 'fill-opacity="0.2"' not in svg(few[name]) + svg(one[name])
        assert all(
            v["lower_over_steps"] <= v["lower"] <= v["upper"] <= v["upper_over_steps"] for v in values(many[name])
        )


@pytest.mark.parametrize("n_runs", [1, 4, 5, 12])
def test_no_interval_sets_an_axis(n_runs: int) -> None:
    journals = [rows(0.9) for _ in range(n_runs)]
    for k, journal in enumerate(journals):
        for row in journal:
            row["val/loss"] *= 1 + 0.3 * k / n_runs
    points = [{"condition": "a", **point} for point in over_runs(journals, KNOWN)]
    for point in points:
        if point["lower"] is not None:
            point |= {"lower": -1000.0, "upper": 1000.0, "lower_over_steps": -1e6, "upper_over_steps": 1e6}
    compiled = vl_convert.vegalite_to_vega(charts.condition_charts(points, KNOWN)["learning"].to_dict())
    (loss,) = [scale for scale in compiled["scales"] if scale["name"].endswith("concat_1_y")]
    assert loss["domain"] == [0, pytest.approx(4 * (1 + 0.3 * (n_runs - 1) / n_runs))]


def test_a_tooltip_reports_too_few_or_equal_runs() -> None:
    assert "95 % interval: the same in all runs" in svg(charts.condition_charts(FEW, KNOWN)["ari"])  # at step 0
    two = svg(charts.condition_charts(points_of(a=(0.8, 0.9)), KNOWN)["ari"])
    assert "95 % interval: too few runs" in two
    assert "lower" not in two


def test_a_map_is_drawn_beside_the_curves_of_its_position() -> None:
    drawn = values(with_effects(POINTS, ADDED)["map"])
    assert {value["metric"] for value in drawn} == {ADDED.key, "ari_within_x"}
    assert {value["condition"] for value in drawn if "upper_over_map" in value} == {"a"}  # b has one run
    assert "map" not in charts.condition_charts(POINTS, catalogue(OWN, [ADDED]))


def test_the_path_has_positions_in_the_order_of_the_prompt() -> None:
    chart = with_effects(ALONE, *EXCHANGED)["path"]
    keys = ("ari", "ari_within_x", *(metric.key for metric in EXCHANGED))
    assert {(value["metric"], value["step"]) for value in values(chart)} == {(key, 200) for key in keys}
    assert re.findall(">(at the separator|at x)</text>", svg(chart))[:2] == ["at the separator", "at x"]


def test_the_live_page_has_the_charts_of_all_metrics_and_feeds_them() -> None:
    made = live_charts((*OWN, *EFFECTS))
    assert all(entry["spec"]["data"] == {"name": "points"} for entry in made["charts"])
    assert [metric["key"] for metric in made["metrics"]][:2] == ["ari", "ari_within_x"]
    (path,) = [entry for entry in made["charts"] if "words" in entry]
    assert path["needs"] == [metric.key for metric in EXCHANGED]
    assert path["panels"]["ari"] == path["panels"]["ari_within_x"] == "ARI"
    assert altair.Chart.from_dict(made["tsne"])
    assert ARI.title in [entry["spec"]["title"] for entry in made["charts"]]


def test_metrics_of_the_last_step_alone_are_drawn_by_layer_and_not_over_steps() -> None:
    last = [point | {"metric": ADDED.key} for point in ALONE if point["metric"] == "ari" and point["step"] == 200]
    drawn = charts.condition_charts([*ALONE, *last], catalogue(OWN, [ADDED]))
    assert not {ADDED.key, "map"} & drawn.keys()
    assert {value["metric"] for value in values(drawn[f"{ADDED.key}_by_layer"])} == {ADDED.key}


def test_the_map_of_a_single_step_is_a_strip_of_layers() -> None:
    last = [point for point in ALONE if point["step"] == 200]
    strip, whole = (with_effects(points, ADDED)["map"].to_dict() for points in (last, ALONE))
    assert "y" not in strip["spec"]["encoding"]
    assert strip["spec"]["height"] < whole["spec"]["height"] / 4
    assert "step" not in strip["title"]
