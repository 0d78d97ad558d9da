"""The curve of a sweep over a number."""

from typing import Any

import pytest
import vl_convert
from planted import rows

from taskcluster.metrics import OWN, catalogue
from taskcluster.pages.sweep_chart import sweep_chart, swept
from taskcluster.results.conditions import Condition
from taskcluster.results.points import over_runs

KNOWN = catalogue(OWN)
ARIS = {10: (0.2, 0.4), 20: (0.5, 0.7), 200: (0.9, 0.9)}
POINTS = [{"condition": str(n), **point} for n, aris in ARIS.items() for point in over_runs([*map(rows, aris)], KNOWN)]


def condition(label: str, sweep: str = "sweep", **settings: Any) -> tuple[str, Condition[Any]]:
    return label, Condition(label, sweep, label, settings, [])


SWEEP = [condition(str(n), n_tasks=n, loss_on="all") for n in ARIS]


def test_a_swept_number_is_recognized_beside_controls_that_differ_in_another_key() -> None:
    control = condition("control", n_tasks=20, loss_on="y")
    assert swept([control, *SWEEP]) == ("n_tasks", {"10": 10, "20": 20, "200": 200})


@pytest.mark.parametrize(
    "conditions",
    [
        SWEEP[:2],
        [condition(name, layout=name) for name in "abc"],
        [condition(str(flag), flag=flag) for flag in (True, False)],
        [condition(str(n), sweep=str(n), n_tasks=n) for n in ARIS],
    ],
    ids=["two values", "words", "flags", "several sweeps"],
)
def test_other_conditions_have_no_curve(conditions: Any) -> None:
    assert swept(conditions) is None
    assert sweep_chart(POINTS, conditions, KNOWN) == {}


def test_the_curve_has_the_mean_of_the_last_step_in_the_last_layer() -> None:
    chart = sweep_chart(POINTS, SWEEP, KNOWN)["against"].to_dict()
    drawn = {(v["value"], v["metric"]): v for v in chart["data"]["values"]}
    for n, aris in ARIS.items():
        point = drawn[n, "ari"]
        assert (point["step"], point["layer"], point["split"]) == (200, 3, "val")
        assert point["mean"] == pytest.approx(sum(aris) / 2)
    svg = vl_convert.vegalite_to_svg(chart)
    for words in ("Against n_tasks", "ARI at the separator", "accuracy", ">200<"):
        assert words in svg
    assert "NaN" not in svg
