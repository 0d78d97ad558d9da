"""Chart specifications hold the numbers they were given, and render."""

import re
from typing import Any

import altair
import pytest
import vl_convert
from planted import rows

from taskcluster.metrics import ACCURACY, ARI, LOSS, OWN, Metric, catalogue
from taskcluster.pages import charts
from taskcluster.pages.marks import axis, inline
from taskcluster.results.points import over_runs

KNOWN = catalogue(OWN)
POINTS = [
    {"condition": name, **point}
    for name, aris in (("a", (0.8, 0.9, 0.85, 0.84, 0.83)), ("b", (0.5,)))
    for point in over_runs([*map(rows, aris)], KNOWN)
]


def drawn(chart: Any) -> list[dict[str, Any]]:
    return chart.to_dict()["data"]["values"]


def test_every_layer_of_both_splits_is_drawn_at_every_step() -> None:
    values = drawn(charts.of_conditions(POINTS, KNOWN)["ari"])
    assert len(values) == 2 * 2 * 4 * 5
    last = [v for v in values if (v["condition"], v["split"], v["step"], v["layer"]) == ("a", "val", 200, 3)]
    assert [v["mean"] for v in last] == [pytest.approx(0.844)]


def test_the_final_chart_shows_the_last_row() -> None:
    values = drawn(charts.of_conditions(POINTS, KNOWN)["ari_by_layer"])
    assert {v["step"] for v in values} == {200}
    assert {v["metric"] for v in values} == {"ari", "ari_within_x"}


def test_conditions_stand_in_rows_where_there_are_several() -> None:
    assert "row" in charts.of_conditions(POINTS, KNOWN)["ari"].to_dict()["facet"]
    alone = [point for point in POINTS if point["condition"] == "a"]
    assert "row" not in charts.of_conditions(alone, KNOWN)["ari"].to_dict()["facet"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["ari", "ari_within_x", "ari_by_layer", "learning"])
def test_every_chart_renders_with_either_theme(name: str, dark: bool) -> None:
    svg = vl_convert.vegalite_to_svg(
        charts.of_conditions(POINTS, KNOWN)[name].to_dict() | {"config": charts.theme(dark)}
    )
    assert "validation" in svg
    assert "NaN" not in svg


def test_a_band_is_drawn_only_where_there_is_an_interval() -> None:
    def bands(condition: str) -> int:
        data = inline([p for p in POINTS if p["condition"] == condition and p["metric"] == "ari"])
        svg = vl_convert.vegalite_to_svg(charts.against_step(data, ARI, "title").to_dict())
        return svg.count('fill-opacity="0.2"')

    assert (bands("a"), bands("b")) == (2 * 4, 0)


def test_behind_a_band_is_a_lighter_one_that_holds_at_all_steps() -> None:
    for name in ("ari", "learning"):
        chart = charts.of_conditions(POINTS, KNOWN)[name]
        several = [value for value in drawn(chart) if value["condition"] == "a"]
        assert all(v["lower_over_steps"] <= v["lower"] <= v["upper"] <= v["upper_over_steps"] for v in several)
        svg = vl_convert.vegalite_to_svg(chart.to_dict())
        assert svg.count('fill-opacity="0.07"') == svg.count('fill-opacity="0.2"') > 0


FEW = [{"condition": "a", **point} for point in over_runs([rows(0.8), rows(0.9), rows(0.7)], KNOWN)]


def test_few_runs_are_thin_lines_without_a_band() -> None:
    for name, lines in (("ari", 3 * 4 * 2), ("learning", 3 * 2 * 2), ("ari_by_layer", 3 * 2 * 2)):
        svg = vl_convert.vegalite_to_svg(charts.of_conditions(FEW, KNOWN)[name].to_dict())
        assert svg.count('stroke-width="0.8"') == lines
        assert 'fill-opacity="0.2"' not in svg
        many = vl_convert.vegalite_to_svg(charts.of_conditions(POINTS, KNOWN)[name].to_dict())
        assert 'stroke-width="0.8"' not in many


@pytest.mark.parametrize("n_runs", [1, 2, 4, 5, 12])
def test_no_interval_sets_an_axis(n_runs: int) -> None:
    journals = [rows(0.9) for _ in range(n_runs)]
    for k, journal in enumerate(journals):
        for row in journal:
            row["val/loss"] *= 1 + 0.3 * k / n_runs
    points = [{"condition": "a", **point} for point in over_runs(journals, KNOWN)]
    for point in points:
        if point["lower"] is not None:
            point |= {"lower": -1000.0, "upper": 1000.0, "lower_over_steps": -1e6, "upper_over_steps": 1e6}
    compiled = vl_convert.vegalite_to_vega(charts.of_conditions(points, KNOWN)["learning"].to_dict())
    (loss,) = [scale for scale in compiled["scales"] if scale["name"].endswith("concat_1_y")]
    assert loss["domain"] == [0, pytest.approx(4 * (1 + 0.3 * (n_runs - 1) / n_runs))]


def test_an_axis_without_bounds_has_room_for_every_mean_and_run() -> None:
    logit = Metric("logit", "logit", by_layer=False)
    points = [{"metric": "logit", "mean": 3.0, "least": -2.0, "most": 7.0, "lower": -90.0, "upper": 90.0}]
    assert axis(logit, inline(points)).to_dict()["scale"]["domain"] == [-2, 7]
    same = [{"metric": "logit", "mean": 3.0, "least": 3.0, "most": 3.0}]
    low, high = axis(logit, inline(same)).to_dict()["scale"]["domain"]
    assert low < 3 < high
    nothing = [{"metric": "logit", "mean": None, "least": None, "most": None}]
    assert "domain" not in axis(logit, inline(nothing)).to_dict()["scale"]


def test_a_tooltip_says_that_runs_are_too_few_or_all_the_same() -> None:
    svg = vl_convert.vegalite_to_svg(charts.of_conditions(FEW, KNOWN)["ari"].to_dict())
    assert "95 % interval: too few runs" not in svg  # three
    assert "95 % interval: the same in all runs" in svg  # at step 0
    two = [{"condition": "a", **point} for point in over_runs([rows(0.8), rows(0.9)], KNOWN)]
    svg = vl_convert.vegalite_to_svg(charts.of_conditions(two, KNOWN)["ari"].to_dict())
    assert "95 % interval: too few runs" in svg
    assert "lower" not in svg


def test_a_source_can_be_named_and_fed_later() -> None:
    source = altair.NamedData("points")
    made = (
        charts.against_step(source, ARI, "title"),
        charts.layer_by_condition(source, ARI, "title"),
        charts.learning(source, [ACCURACY, LOSS], "title"),
        charts.by_layer_at_the_end(source, [ARI]),
    )
    for chart in made:
        assert chart.to_dict()["data"] == {"name": "points"}


def test_panels_stand_by_checkpoint_and_layer() -> None:
    points = [{"x": 0.0, "y": 1.0, "task": 3, "step": step, "layer": layer} for step in (0, 9) for layer in (0, 6)]
    svg = vl_convert.vegalite_to_svg(charts.tsne(inline(points), n_tasks=5, title="t-SNE").to_json())
    for label in ("step", "layer", ">9<", ">6<"):
        assert label in svg


def test_a_map_is_drawn_beside_the_curves_of_its_position() -> None:
    effect = Metric("effect", "effect", "at x", position="input", low=0, high=1, views=("map",))
    at_x = [point | {"metric": "effect"} for point in POINTS if point["metric"] == "ari"]
    chart = charts.of_conditions([*POINTS, *at_x], catalogue(OWN, [effect]))["map"]
    assert {value["metric"] for value in drawn(chart)} == {"effect", "ari_within_x"}
    assert "map" not in charts.of_conditions(POINTS, catalogue(OWN, [effect]))
    (end,) = {value["upper_over_map"] for value in drawn(chart) if (value["condition"], value["layer"]) == ("b", 3)}
    assert end is None  # of one run
    assert vl_convert.vegalite_to_svg(chart.to_dict()).startswith("<svg")


def test_the_path_has_positions_in_the_order_of_the_prompt_beside_what_is_measured_there() -> None:
    def effect(position: str, place: str) -> Metric:
        where = f"{place}, a state of B"
        return Metric(f"effect_{position}", "effect", where, position=position, low=0, high=1, views=("path",))

    places = {"answer": "at the answer", "input": "at x", "instruction_end": "at the separator", "own": "own"}
    effects = [effect(*place) for place in places.items()]
    of_effects = [p | {"metric": metric.key} for p in POINTS if p["metric"] == "ari" for metric in effects]
    chart = charts.of_conditions([*POINTS, *of_effects], catalogue(OWN, effects))["path"]
    assert {(value["metric"], value["step"]) for value in drawn(chart)} == {
        (key, 200) for key in ("ari", "ari_within_x", *(metric.key for metric in effects))
    }
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    rows = re.findall(">(at the separator|at x|at the answer|own)</text>", svg)
    assert rows[:4] == ["at the separator", "at x", "at the answer", "own"]
    assert re.findall(">(effect[^<]*|ARI)</text>", svg)[:2] == ["effect, a state of B", "ARI"]


def test_the_name_of_a_row_is_horizontal_above_it() -> None:
    for name in ("ari", "map"):
        effect = Metric("effect", "effect", "at x", position="input", low=0, high=1, views=("map",))
        points = [point | {"metric": "effect"} for point in POINTS if point["metric"] == "ari"] + POINTS
        named = [point | {"condition": f"condition {point['condition']}"} for point in points]
        svg = vl_convert.vegalite_to_svg(charts.of_conditions(named, catalogue(OWN, [effect]))[name].to_dict())
        turned = re.findall(r'<text [^>]*transform="([^"]*)"[^>]*>condition [ab]</text>', svg)
        assert turned, name
        assert not [transform for transform in turned if "rotate" in transform]


def test_many_maps_of_one_condition_stand_in_several_lines() -> None:
    def effect(k: int) -> Metric:
        return Metric(f"effect{k}", "effect", f"edit {k}", position="input", low=0, high=1, views=("map",))

    effects = [effect(k) for k in range(5)]
    alone = [point for point in POINTS if point["condition"] == "a"]
    of_effects = [p | {"metric": metric.key} for p in alone if p["metric"] == "ari" for metric in effects]

    def width(n: int) -> float:
        known = catalogue(OWN, effects[:n])
        svg = vl_convert.vegalite_to_svg(charts.of_conditions([*alone, *of_effects], known)["map"].to_dict())
        return float(re.findall(r'width="([\d.]+)"', svg)[0])

    assert width(5) == pytest.approx(width(3), abs=1)  # beside the ARI of the position: six, and four
