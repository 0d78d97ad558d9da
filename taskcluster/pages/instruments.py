"""Charts of the metrics of the view "instruments": all of them by layer, and how far they agree. No files.

in:  points of `aggregate.over_runs` with their condition, agreements of every condition
out: charts by name; none where there are too few instruments to compare
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import PLACES, Catalogue, Metric
from taskcluster.pages.charts import Chart, Points, in_rows, place
from taskcluster.pages.marks import bars, each_run, inline, told
from taskcluster.results.correlations import ALL, LAST, Agreement, instruments

TOLD = ("condition", "metric", "layer", "step", "n", "mean", "lower", "upper", "runs")
DARK = 0.55  # correlations beyond this are on a dark ground


def of_conditions(points: Points, agreements: Mapping[str, Sequence[Agreement]], known: Catalogue) -> dict[str, Chart]:
    """agreements: of every condition, by its name."""
    metrics = instruments(known, {point["metric"] for point in points})
    if not metrics:
        return {}
    return {
        "instruments": by_layer(inline(_last(points, metrics), TOLD), metrics, len(agreements) > 1),
        "agreement": agreement(inline(_cells(agreements, metrics)), metrics, len(agreements) > 1),
    }


def by_layer(data: alt.Data, metrics: Sequence[Metric], by_condition: bool) -> Chart:
    """Every instrument by layer at the last step: a column for each place, a line for each instrument with intervals;
    `by_condition`: a row for each."""
    names, places = {m.key: m.name for m in metrics}, {m.key: place(m) for m in metrics}
    legend = alt.Legend(symbolType="stroke", symbolOpacity=1, labelLimit=300)
    order = [*dict.fromkeys(names.values())]
    color = alt.Color(
        "name:N", title=None, sort=order, scale=alt.Scale(domain=order, scheme="tableau10"), legend=legend
    )
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    x = alt.X("layer:O", title="layer (0: embedding)", axis=alt.Axis(labelAngle=0))
    base = alt.Chart().encode(x=x, color=color, detail="metric:N")
    dots = told(base.mark_circle(size=30, opacity=1).encode(y=y), ("condition:N", "name:N", "layer:O"))
    lines = *each_run(base), base.mark_line().encode(y=y)
    panel = alt.layer(bars(base, 0.5), *lines, dots).properties(width=320, height=240)
    column = alt.Column("place:N", title=None, sort=_in_order(places.values()))
    return (
        panel.facet(column=column, **in_rows(by_condition), data=data)
        .transform_calculate(name=f"({names})[datum.metric]", place=f"({places})[datum.metric]")
        .properties(title="Instruments by layer at the last step, on validation")
    )


def agreement(data: alt.Data, metrics: Sequence[Metric], by_condition: bool) -> Chart:
    """The rank correlation of every two instruments, as a map with numbers: a column for what it is over."""
    order = [metric.title for metric in metrics]
    between = alt.Scale(domain=order, paddingInner=0.03)
    base = alt.Chart().encode(
        x=alt.X("other:N", title=None, scale=between, axis=alt.Axis(labelAngle=-40, labelLimit=240)),
        y=alt.Y("one:N", title=None, scale=between, axis=alt.Axis(labelLimit=240)),
    )
    scale = alt.Scale(domain=[-1, 1], scheme="redblue")
    tiles = base.mark_rect().encode(color=alt.Color("mean:Q", title="rank correlation", scale=scale))
    tiles = told(tiles, ("condition:N", "one:N", "other:N", "over:N"))
    ink = alt.when(f"abs(datum.mean) > {DARK}").then(alt.value("white")).otherwise(alt.value("black"))
    numbers = base.mark_text(fontSize=10).encode(text=alt.Text("mean:Q", format=".2f"), color=ink)
    panel = alt.layer(tiles, numbers).properties(width=alt.Step(34), height=alt.Step(24))
    column = alt.Column("over:N", title=None, sort=[ALL, LAST])
    return panel.facet(column=column, **in_rows(by_condition), data=data).properties(
        title="Do the instruments agree? Spearman's rank correlation"
    )


def _last(points: Points, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    ends = {point["condition"]: point["step"] for point in points}
    keys = {metric.key for metric in metrics}
    return [
        point
        for point in points
        if point["metric"] in keys and point["split"] == "val" and point["step"] == ends[point["condition"]]
    ]


def _cells(agreements: Mapping[str, Sequence[Agreement]], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Both halves of the matrix."""
    names = {metric.key: metric.title for metric in metrics}
    cells = []
    for condition, of_condition in agreements.items():
        for found in of_condition:
            numbers = {key: None if value != value else value for key, value in found.correlation._asdict().items()}
            cell = {"condition": condition, "over": found.over, **numbers}
            if numbers["mean"] is not None:
                for pair in ((found.metric, found.other), (found.other, found.metric)):
                    cells.append({"one": names[pair[0]], "other": names[pair[1]], **cell})
    return cells


def _in_order(places: Any) -> list[str]:
    """Places in the order of the prompt."""
    order = [*PLACES.values()]
    return sorted(dict.fromkeys(places), key=lambda words: order.index(words) if words in order else len(order))
