"""Charts fitted to a width: labels keep their values, and equal curves are drawn side by side."""

import re
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from planted import config, plant, rows

from taskcluster.metrics import OWN, catalogue
from taskcluster.pages import charts, multirun_report, rendering
from taskcluster.pages.layout import WIDTHS, broken, colours, fitted
from taskcluster.pages.marks import dodged
from taskcluster.results.conditions import short_names
from taskcluster.results.points import over_runs
from taskcluster.validation import UserError

KNOWN = catalogue(OWN)
NAMES = [f"weight_decay=0.{k}" for k in range(3)]


def points_of(*aris: float, n_layer: int = 3) -> list[dict[str, Any]]:
    pairs = zip(NAMES, aris, strict=False)
    return [{"condition": name, **p} for name, ari in pairs for p in over_runs([rows(ari, n_layer)], KNOWN)]


@pytest.mark.parametrize(("width", "n_layer"), [(WIDTHS[0], 3), (WIDTHS[1], 30), (WIDTHS[-1], 6)])
def test_a_chart_is_as_wide_as_it_should_be(width: int, n_layer: int) -> None:
    known = colours(NAMES)
    for name, chart in charts.condition_charts(points_of(0.9, 0.8, 0.7, n_layer=n_layer), KNOWN).items():
        svg = rendering.picture(fitted(chart.to_dict(), width, known))
        drawn = re.search(r'width="([\d.]+)"', svg)
        assert drawn
        assert float(drawn[1]) <= 1.1 * width, name


def test_a_condition_has_one_colour_in_all_charts_light_and_dark() -> None:
    known = colours(NAMES)
    for name, chart in charts.condition_charts(points_of(0.9, 0.8), KNOWN).items():
        if name in ("ari_over_steps", "learning", "ari_by_layer"):
            assert known[NAMES[1]] in rendering.picture(fitted(chart.to_dict(), 520, known))
    assert charts.theme()["range"] == charts.theme(dark=True)["range"]


@pytest.mark.parametrize("along", ["step", "layer"])
def test_curves_that_are_the_same_are_beside_each_other_and_others_where_they_are(along: Any) -> None:
    points = [p for p in points_of(0.9, 0.9, 0.7) if p["metric"] == "ari" and (along == "step" or p["step"] == 200)]
    same = {
        name: {p.get("moved", 0.0) for p in dodged(points, KNOWN, along) if p["condition"] == name} for name in NAMES
    }
    assert same[NAMES[0]] == {0.0}
    assert {abs(by) for by in same[NAMES[1]]} == {0.012}
    assert (same[NAMES[2]] == {0.0}) == (along == "layer")  # layer 0 is the same in all conditions, at all steps
    for before, after in zip(points, dodged(points, KNOWN, along), strict=True):
        assert after["mean"] - after.get("moved", 0) == pytest.approx(before["mean"])


def test_a_single_step_has_nothing_over_steps() -> None:
    last = [point for point in points_of(0.9, 0.8) if point["step"] == 200]
    made = charts.condition_charts(last, KNOWN)
    assert next(iter(made)) == "ari_by_layer"
    assert all("step (optimizer updates)" not in vl_convert.vegalite_to_svg(c.to_dict()) for c in made.values())


def test_names_keep_their_value() -> None:
    assert short_names(["optimizer.weight_decay=0.3", "optimizer.weight_decay=0.1"])[0] == "weight_decay=0.3"
    assert short_names(["model.seed=1", "data.seed=1"]) == ["model.seed=1", "data.seed=1"]
    assert broken("a_very_long_key_of_a_configuration=0.3", 12)[-1].endswith("=0.3")


def test_a_figure_for_a_paper_has_the_width_that_was_asked_for(tmp_path: Path) -> None:
    for n_layer in (2, 3):
        plant(tmp_path / f"n={n_layer}/seed=0", 0.9, config(0, n_layer=n_layer))
    pdf, png = multirun_report.figure(tmp_path, "ari_by_layer", "3.3in")
    assert b"MediaBox [0 0 237.6 " in pdf.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    multirun_report.figure(tmp_path, "ari_over_steps", "84mm", 2)
    for wrong, said in (
        (("nothing", "3.3in"), "choose one of ari_over_steps"),
        (("ari_over_steps", "3.3"), "give one as in 3.3in"),
        (("ari_over_steps", "3.3in", 7), "it has layers 0 to 3"),
        (("ari_by_layer", "3.3in", 2), "leave --layer out"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            multirun_report.figure(tmp_path, *wrong)
