"""A sweep over a number is found among conditions, and its curves hold the numbers of the last step and layer."""

from typing import Any

import pytest
import vl_convert
from planted import rows

from taskcluster.metrics import OWN, catalogue
from taskcluster.pages.sweep_chart import sweep_chart
from taskcluster.results.aggregate import Condition, over_runs
from taskcluster.results.sweeps import against, comparable, swept

KNOWN = catalogue(OWN)
ARIS = {10: (0.2, 0.4), 20: (0.5, 0.7), 200: (0.9, 0.9)}


def condition(label: str, sweep: str = "sweep", **settings: Any) -> tuple[str, Condition[Any]]:
    return label, Condition(label, sweep, label, settings, [])


SWEEP = [condition(str(n), n_tasks=n, loss_on="all") for n in ARIS]
CONTROL = condition("control", n_tasks=20, loss_on="y")
POINTS = [{"condition": str(n), **point} for n, aris in ARIS.items() for point in over_runs([*map(rows, aris)], KNOWN)]


def test_the_key_of_a_sweep_is_found_beside_controls_that_differ_in_another() -> None:
    found = swept([CONTROL, *SWEEP])
    assert found is not None
    assert (found.key, found.values) == ("n_tasks", {"10": 10, "20": 20, "200": 200})


@pytest.mark.parametrize(
    "named",
    [
        SWEEP[:2],
        [condition(name, layout=name) for name in "abc"],
        [condition(str(flag), flag=flag) for flag in (True, False)],
        [condition(str(n), sweep=str(n), n_tasks=n) for n in ARIS],
    ],
)
def test_two_values_words_and_conditions_of_several_sweeps_are_no_curve(named: Any) -> None:
    assert swept(named) is None
    assert sweep_chart(POINTS, named, KNOWN) == {}


def test_its_curves_hold_the_mean_of_the_last_step_in_the_last_layer() -> None:
    found = swept(SWEEP)
    assert found is not None
    points = {(p["value"], p["metric"]): p for p in against(POINTS, found, comparable(KNOWN))}
    for n, aris in ARIS.items():
        point = points[n, "ari"]
        assert (point["step"], point["layer"], point["split"]) == (200, 3, "val")
        assert point["mean"] == pytest.approx(sum(aris) / 2)


def test_its_chart_names_the_key_and_every_metric() -> None:
    chart = sweep_chart(POINTS, SWEEP, KNOWN)["against"]
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    for words in ("Against n_tasks", "ARI at the separator", "accuracy", ">200<"):
        assert words in svg
    assert "NaN" not in svg
