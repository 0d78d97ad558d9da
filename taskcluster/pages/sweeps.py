"""The chart of a sweep over a number: what the end of a run is like at each of its values. No files.

in:  points of `results.against` for each value of the key
out: a chart by its name; none where nothing was swept so
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Catalogue
from taskcluster.pages.charts import Chart, Points
from taskcluster.pages.marks import bars, each_run, inline, told
from taskcluster.results.conditions import Condition, swept
from taskcluster.results.points import comparable, sweep_points

TOLD = ("metric", "layer", "step", "n", "mean", "lower", "upper", "runs", "value")

WIDE = 10  # the largest value over the least from which an axis is logarithmic


def of_conditions(points: Points, named: Sequence[tuple[str, Condition[Any]]], known: Catalogue) -> dict[str, Chart]:
    """The curves of all comparable metrics against the one key that a sweep varies."""
    found, metrics = swept(named), comparable(known)
    chosen = sweep_points(points, found, metrics) if found else []
    if not found or not chosen:
        return {}
    titles = {metric.key: metric.title for metric in metrics if metric.key in {point["metric"] for point in chosen}}
    order = [*titles.values()]
    values = sorted({*found.values.values()})
    wide = values[0] > 0 and values[-1] / values[0] >= WIDE
    x = alt.X(
        "value:Q",
        title=found.key,
        scale=alt.Scale(type="log" if wide else "linear", nice=False, padding=12),
        axis=alt.Axis(values=values, grid=False, format="~g"),
    )
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    legend = alt.Legend(symbolType="stroke", symbolOpacity=1, labelLimit=360)
    color = alt.Color("name:N", title=None, sort=order, scale=alt.Scale(domain=order), legend=legend)
    base = alt.Chart().encode(x=x, color=color)
    dots = told(base.mark_circle(size=40, opacity=1).encode(y=y), ("name:N", "value:Q", "layer:O", "step:Q"))
    data = inline(chosen, TOLD)
    runs = each_run(base, dots=True)
    chart = alt.layer(bars(base, 0.5), *runs, base.mark_line().encode(y=y), dots, data=data)
    chart = chart.properties(width=420, height=280)
    chart = chart.transform_calculate(name=f"({titles})[datum.metric]")
    return {"against": chart.properties(title=f"Against {found.key}, at the last step and layer, on validation")}
