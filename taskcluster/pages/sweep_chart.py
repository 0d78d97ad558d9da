"""The chart of a sweep over a number: the end of a run at each of its values. No files.

in:  points of every condition, and the conditions with their settings
out: a chart by its name; none where no number was swept
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt

from taskcluster.metrics import Catalogue, Metric
from taskcluster.pages.marks import Chart, Points, curve, inline, named, stroke_legend
from taskcluster.results.conditions import Condition
from taskcluster.views import views

FEWEST = 3  # values of a key that make a curve
WIDE = 10  # the largest value over the least from which an axis is logarithmic


class Swept(NamedTuple):
    """A key whose value is a number, and those conditions that differ in nothing else: {name: value}."""

    key: str
    values: dict[str, float]


def sweep_chart(points: Points, conditions: Sequence[tuple[str, Condition[Any]]], known: Catalogue) -> dict[str, Chart]:
    """The curves of all comparable metrics against the one key that a sweep varies. conditions: with their names."""
    sweep = swept(conditions)
    if not sweep:
        return {}
    comparable = [m for m in known.values() if m.emerges and not {"runs", "map"}.isdisjoint(views(m))]
    chosen = ends(points, sweep, comparable)
    titles = {point["metric"]: known[point["metric"]].title for point in chosen}
    order = [metric.title for metric in comparable if metric.key in titles]
    values = sorted({*sweep.values.values()})
    wide = values[0] > 0 and values[-1] / values[0] >= WIDE
    scale = alt.Scale(type="log" if wide else "linear", nice=False, zero=False, padding=12)
    x = alt.X("value:Q", title=sweep.key, scale=scale, axis=alt.Axis(values=values, grid=False, format="~g"))
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    legend = stroke_legend(labelLimit=360)
    color = alt.Color("name:N", title=None, sort=order, scale=alt.Scale(domain=order), legend=legend)
    base = alt.Chart().encode(x=x, color=color)
    panel = curve(base, y, ("name:N", "value:Q", "layer:O", "step:Q"), opacity=0.5, dots=True)
    chart = named(panel.properties(width=420, height=280, data=inline(chosen)), name=titles)
    return {"against": chart.properties(title=f"Against {sweep.key}, at the last step and layer, on validation")}


def swept(conditions: Sequence[tuple[str, Condition[Any]]]) -> Swept | None:
    """The key with the most values among conditions that are otherwise alike; None if no key has FEWEST."""
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for name, condition in conditions:
        for key, value in condition.settings.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                alike = {"sweep": condition.sweep} | condition.settings | {key: None}
                groups.setdefault((key, str(alike)), {})[name] = value
    found = [Swept(key, dict(sorted(values.items(), key=lambda item: item[1]))) for (key, _), values in groups.items()]
    best = max(found, key=lambda sweep: len({*sweep.values.values()}), default=None)
    return best if best and len({*best.values.values()}) >= FEWEST else None


def ends(points: Points, sweep: Swept, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """The points of metrics on validation at the last step, in the last layer, each with the "value" of the key."""
    keys = {metric.key for metric in metrics}
    chosen = [p for p in points if p["split"] == "val" and p["metric"] in keys and p["condition"] in sweep.values]
    chosen.sort(key=lambda p: (p["step"], -1 if p["layer"] is None else p["layer"]))
    last = {(point["condition"], point["metric"]): point for point in chosen}
    return [point | {"value": sweep.values[point["condition"]]} for point in last.values()]
