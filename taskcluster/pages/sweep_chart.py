"""The chart of a sweep over a number: the end of a run at each of its values. No files.

in:  points of `results.against` for each value of the key
out: a chart by its name; none where nothing was swept so
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Catalogue
from taskcluster.pages.charts import Chart, Points
from taskcluster.pages.marks import curve, inline, named, stroke_legend
from taskcluster.results.conditions import Condition, swept
from taskcluster.results.points import comparable, sweep_points

FIELDS = ("metric", "layer", "step", "n", "mean", "lower", "upper", "runs", "value")
WIDE = 10  # the largest value over the least from which an axis is logarithmic


def sweep_chart(points: Points, conditions: Sequence[tuple[str, Condition[Any]]], known: Catalogue) -> dict[str, Chart]:
    """The curves of all comparable metrics against the one key that a sweep varies. conditions: with their names."""
    sweep, metrics = swept(conditions), comparable(known)
    chosen = sweep_points(points, sweep, metrics) if sweep else []
    if not sweep or not chosen:
        return {}
    measured = {point["metric"] for point in chosen}
    titles = {metric.key: metric.title for metric in metrics if metric.key in measured}
    values = sorted({*sweep.values.values()})
    wide = values[0] > 0 and values[-1] / values[0] >= WIDE
    scale = alt.Scale(type="log" if wide else "linear", nice=False, padding=12)
    x = alt.X("value:Q", title=sweep.key, scale=scale, axis=alt.Axis(values=values, grid=False, format="~g"))
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    order = [*titles.values()]
    legend = stroke_legend(labelLimit=360)
    color = alt.Color("name:N", title=None, sort=order, scale=alt.Scale(domain=order), legend=legend)
    base = alt.Chart().encode(x=x, color=color)
    panel = curve(base, y, ("name:N", "value:Q", "layer:O", "step:Q"), opacity=0.5, dots=True)
    chart = named(panel.properties(width=420, height=280, data=inline(chosen, FIELDS)), name=titles)
    return {"against": chart.properties(title=f"Against {sweep.key}, at the last step and layer, on validation")}
