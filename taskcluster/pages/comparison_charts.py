"""Charts of metrics beside others: baselines, the same clusters against other labels, other instruments. No files.

in:  points of `points.over_runs` with their condition; agreements of every condition
out: a line for each metric by layer, a rule across the panel for one number; a map of how far instruments agree
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Catalogue, Kind, Metric
from taskcluster.pages import marks
from taskcluster.pages.marks import Chart, Points
from taskcluster.results.correlations import ALL, LAST, Agreement, instruments
from taskcluster.runs.journal import finite
from taskcluster.views import shown

ITSELF = {"baseline": "trained network", "nuisance": "task"}  # the metric's name among others of this kind
TITLES = {
    "baseline": "ARI beside baselines, by layer at the last step, on validation",
    "nuisance": "Which label the clusters follow: ARI against each label, by layer at the last step, on validation",
}
THIN = [5, 3]  # dashes
DARK = 0.55  # correlations beyond this are on a dark ground

Group = Sequence[Metric]  # a metric, and those that it is compared with


def groups(known: Catalogue, kind: Kind) -> list[Group]:
    """The metrics that have others of this kind beside them, each with these."""
    others = [metric for metric in shown(known, "beside") if metric.kind == kind]
    keys = dict.fromkeys(metric.of for metric in others if metric.of in known)
    return [[known[key], *(metric for metric in others if metric.of == key)] for key in keys]


def labels(groups: Sequence[Group], kind: Kind) -> dict[str, dict[str, str]]:
    """For each field of a point its value by metric: label, its line; where, its panel; role, how it is drawn."""
    beside = [(metric, group[0]) for group in groups for metric in group[1:]]
    firsts = [group[0] for group in groups]
    return {
        "label": {m.key: ITSELF[kind] for m in firsts} | {m.key: m.where for m, _ in beside},
        "where": {m.key: m.where for m in firsts} | {m.key: first.where for m, first in beside},
        "role": {m.key: "itself" for m in firsts} | {m.key: "beside" for m, _ in beside},
    }


def beside_by_layer(data: Any, groups: Sequence[Group], kind: Kind, by_condition: bool = False) -> Chart:
    """A column for each metric, with the others as dashed lines; `by_condition`: a row for each."""
    fields = labels(groups, kind)
    y = marks.axis(groups[0][0], data)
    order = [*dict.fromkeys(fields["label"].values())]
    color = alt.Color("label:N", title=None, sort=order, legend=marks.stroke_legend(labelLimit=240))
    base = alt.Chart().encode(color=color)
    layered = base.transform_filter("isValid(datum.layer)").encode(x=marks.layers_axis())
    itself, others = "datum.role === 'itself'", "datum.role === 'beside'"
    words = ("label:N", "condition:N", "layer:O")
    rule = marks.tooltip(base.mark_rule(strokeWidth=1.5, strokeDash=THIN).encode(y=y), words)
    panel = alt.layer(
        marks.bars(layered),
        *(line.transform_filter(itself) for line in marks.each_run(layered)),
        layered.mark_line(strokeWidth=1.5, strokeDash=THIN).encode(y=y).transform_filter(others),
        layered.mark_line(strokeWidth=3).encode(y=y).transform_filter(itself),
        marks.tooltip(layered.mark_circle(size=30, opacity=1).encode(y=y), words),
        rule.transform_filter("!isValid(datum.layer)"),
    ).properties(width=300, height=240)
    chart = panel.facet(column=marks.column("where", fields["where"].values()), **marks.rows(by_condition), data=data)
    return marks.named(chart.transform_filter(alt.datum.split == "val"), **fields).properties(title=TITLES[kind])


def rules(metrics: Sequence[Metric]) -> Any:
    """Across a panel of validation against the step, each metric's one number, with dashes of its own."""
    names = {metric.key: metric.where for metric in metrics}
    legend = marks.stroke_legend(symbolStrokeColor="gray", symbolSize=600, labelLimit=240)
    dashes = alt.Scale(domain=[*names.values()], range=[[7, 2], [3, 2], [1, 2], [7, 2, 1, 2], [4, 1]])
    dash = alt.StrokeDash("baseline:N", title="baseline", scale=dashes, legend=legend)
    rule = alt.Chart().mark_rule(color="gray", strokeWidth=1.2).encode(y="mean:Q", strokeDash=dash)
    return marks.named(rule.transform_filter(alt.FieldOneOfPredicate("metric", [*names])), baseline=names)


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
        "instruments": instruments_by_layer(marks.inline([p for p in ends if p["metric"] in keys]), metrics, several),
        "agreement": agreement(marks.inline(_cells(agreements, metrics)), metrics, several),
    }


def instruments_by_layer(data: alt.Data, metrics: Sequence[Metric], by_condition: bool) -> Chart:
    """Every instrument by layer at the last step: a column for each place, a line for each instrument with intervals;
    `by_condition`: a row for each."""
    order = [*dict.fromkeys(metric.name for metric in metrics)]
    scale = alt.Scale(domain=order, scheme="tableau10")
    color = alt.Color("name:N", title=None, sort=order, scale=scale, legend=marks.stroke_legend(labelLimit=300))
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    base = alt.Chart().encode(x=marks.layers_axis(), color=color, detail="metric:N")
    panel = marks.curve(base, y, ("condition:N", "name:N", "layer:O"), opacity=0.5).properties(width=320, height=240)
    chart = panel.facet(column=marks.column("place", marks.places(metrics)), **marks.rows(by_condition), data=data)
    chart = marks.named(chart, name={m.key: m.name for m in metrics}, place={m.key: marks.place(m) for m in metrics})
    return chart.properties(title="Instruments by layer at the last step, on validation")


def agreement(data: alt.Data, metrics: Sequence[Metric], by_condition: bool) -> Chart:
    """The rank correlation of every two instruments, as a map with numbers: a column for what it is over."""
    between = alt.Scale(domain=[metric.title for metric in metrics], paddingInner=0.03)
    base = alt.Chart().encode(
        x=alt.X("other:N", title=None, scale=between, axis=alt.Axis(labelAngle=-60, labelLimit=300)),
        y=alt.Y("one:N", title=None, scale=between, axis=alt.Axis(labelLimit=240)),
    )
    scale = alt.Scale(domain=[-1, 1], scheme="redblue")
    tiles = base.mark_rect().encode(color=alt.Color("mean:Q", title="rank correlation", scale=scale))
    tiles = marks.tooltip(tiles, ("condition:N", "one:N", "other:N", "over:N"))
    ink = alt.when(f"abs(datum.mean) > {DARK}").then(alt.value("white")).otherwise(alt.value("black"))
    numbers = base.mark_text(fontSize=10).encode(text=alt.Text("mean:Q", format=".2f"), color=ink)
    panel = alt.layer(tiles, numbers).properties(width=alt.Step(34), height=alt.Step(24))
    chart = panel.facet(column=marks.column("over", (ALL, LAST)), **marks.rows(by_condition), data=data)
    return chart.properties(title="Do the instruments agree? Spearman's rank correlation")


def _cells(agreements: Mapping[str, Sequence[Agreement]], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Both halves of the matrix."""
    names = {metric.key: metric.title for metric in metrics}
    cells = []
    for condition, pairs in agreements.items():
        for one, other, over, correlation in pairs:
            cell = {"condition": condition, "over": over, "one": names[one], "other": names[other]}
            cell |= {key: finite(value) for key, value in correlation._asdict().items()}
            cells += [cell, cell | {"one": names[other], "other": names[one]}]
    return [cell for cell in cells if cell["mean"] is not None]
