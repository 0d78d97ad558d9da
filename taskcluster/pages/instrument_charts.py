"""Charts of the metrics of the view "instruments": all of them by layer, and how far they agree. No files.

in:  points of `aggregate.over_runs` with their condition, agreements of every condition
out: charts by name; none if there are too few instruments to compare
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Catalogue, Metric
from taskcluster.pages.charts import Chart, Points
from taskcluster.pages.marks import (
    column,
    curve,
    inline,
    layers_axis,
    named,
    place,
    places,
    rows,
    stroke_legend,
    tooltip,
)
from taskcluster.results.correlations import ALL, LAST, Agreement, instruments

FIELDS = ("condition", "metric", "layer", "step", "n", "mean", "lower", "upper", "runs")
DARK = 0.55  # correlations beyond this are on a dark ground


def instrument_charts(
    points: Points, agreements: Mapping[str, Sequence[Agreement]], known: Catalogue
) -> dict[str, Chart]:
    """agreements: of every condition, by its name."""
    metrics = instruments(known, {point["metric"] for point in points})
    if not metrics:
        return {}
    last_step = {point["condition"]: point["step"] for point in points}
    ends = [p for p in points if p["split"] == "val" and p["step"] == last_step[p["condition"]]]
    keys, several = {metric.key for metric in metrics}, len(agreements) > 1
    return {
        "instruments": by_layer(inline([p for p in ends if p["metric"] in keys], FIELDS), metrics, several),
        "agreement": agreement(inline(_cells(agreements, metrics)), metrics, several),
    }


def by_layer(data: alt.Data, metrics: Sequence[Metric], by_condition: bool) -> Chart:
    """Every instrument by layer at the last step: a column for each place, a line for each instrument with intervals;
    `by_condition`: a row for each."""
    order = [*dict.fromkeys(metric.name for metric in metrics)]
    scale = alt.Scale(domain=order, scheme="tableau10")
    color = alt.Color("name:N", title=None, sort=order, scale=scale, legend=stroke_legend(labelLimit=300))
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    base = alt.Chart().encode(x=layers_axis(), color=color, detail="metric:N")
    panel = curve(base, y, ("condition:N", "name:N", "layer:O"), opacity=0.5).properties(width=320, height=240)
    chart = panel.facet(column=column("place", places(metrics)), **rows(by_condition), data=data)
    chart = named(chart, name={m.key: m.name for m in metrics}, place={m.key: place(m) for m in metrics})
    return chart.properties(title="Instruments by layer at the last step, on validation")


def agreement(data: alt.Data, metrics: Sequence[Metric], by_condition: bool) -> Chart:
    """The rank correlation of every two instruments, as a map with numbers: a column for what it is over."""
    between = alt.Scale(domain=[metric.title for metric in metrics], paddingInner=0.03)
    base = alt.Chart().encode(
        x=alt.X("other:N", title=None, scale=between, axis=alt.Axis(labelAngle=-40, labelLimit=240)),
        y=alt.Y("one:N", title=None, scale=between, axis=alt.Axis(labelLimit=240)),
    )
    scale = alt.Scale(domain=[-1, 1], scheme="redblue")
    tiles = base.mark_rect().encode(color=alt.Color("mean:Q", title="rank correlation", scale=scale))
    tiles = tooltip(tiles, ("condition:N", "one:N", "other:N", "over:N"))
    ink = alt.when(f"abs(datum.mean) > {DARK}").then(alt.value("white")).otherwise(alt.value("black"))
    numbers = base.mark_text(fontSize=10).encode(text=alt.Text("mean:Q", format=".2f"), color=ink)
    panel = alt.layer(tiles, numbers).properties(width=alt.Step(34), height=alt.Step(24))
    chart = panel.facet(column=column("over", (ALL, LAST)), **rows(by_condition), data=data)
    return chart.properties(title="Do the instruments agree? Spearman's rank correlation")


def _cells(agreements: Mapping[str, Sequence[Agreement]], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Both halves of the matrix."""
    names = {metric.key: metric.title for metric in metrics}
    cells = []
    for condition, pairs in agreements.items():
        for pair in pairs:
            numbers = {key: None if value != value else value for key, value in pair.correlation._asdict().items()}
            for one, other in ((pair.metric, pair.other), (pair.other, pair.metric)):
                cell = {"condition": condition, "over": pair.over, "one": names[one], "other": names[other]}
                cells.append(cell | numbers)
    return [cell for cell in cells if cell["mean"] is not None]
