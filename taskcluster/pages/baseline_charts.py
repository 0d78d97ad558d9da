"""Charts of metrics beside what they are compared with: baselines, and the same clusters against other labels.

in:  points of the last step, of metrics and of those that are compared with them (`Metric.of`, the view "beside")
out: a line for each by layer, a rule across the panel for one number
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Catalogue, Kind, Metric
from taskcluster.pages.marks import (
    axis,
    bars,
    column,
    each_run,
    layers_axis,
    named,
    rows,
    stroke_legend,
    tooltip,
)  # fmt: skip
from taskcluster.views import shown

ITSELF = {"baseline": "trained network", "nuisance": "task"}  # what the metric is called beside others of this kind
TITLES = {
    "baseline": "ARI beside baselines, by layer at the last step, on validation",
    "nuisance": "What the clusters are of: their ARI against each label, by layer at the last step, on validation",
}
THIN = [5, 3]  # dashes

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


def by_layer(data: Any, groups: Sequence[Group], kind: Kind, by_condition: bool = False) -> Any:
    """A column for each metric, with the others as dashed lines; `by_condition`: a row for each."""
    fields = labels(groups, kind)
    y = axis(groups[0][0], data)
    order = [*dict.fromkeys(fields["label"].values())]
    color = alt.Color("label:N", title=None, sort=order, legend=stroke_legend(labelLimit=240))
    base = alt.Chart().encode(color=color)
    layered = base.transform_filter("isValid(datum.layer)").encode(x=layers_axis())
    itself, others = "datum.role === 'itself'", "datum.role === 'beside'"
    words = ("label:N", "condition:N", "layer:O")
    rule = tooltip(base.mark_rule(strokeWidth=1.5, strokeDash=THIN).encode(y=y), words)
    panel = alt.layer(
        bars(layered),
        *(line.transform_filter(itself) for line in each_run(layered)),
        layered.mark_line(strokeWidth=1.5, strokeDash=THIN).encode(y=y).transform_filter(others),
        layered.mark_line(strokeWidth=3).encode(y=y).transform_filter(itself),
        tooltip(layered.mark_circle(size=30, opacity=1).encode(y=y), words),
        rule.transform_filter("!isValid(datum.layer)"),
    ).properties(width=300, height=240)
    chart = panel.facet(column=column("where", fields["where"].values()), **rows(by_condition), data=data)
    return named(chart.transform_filter(alt.datum.split == "val"), **fields).properties(title=TITLES[kind])


def rules(metrics: Sequence[Metric]) -> Any:
    """Across a panel of validation against the step, each metric's one number, with dashes of its own."""
    names = {metric.key: metric.where for metric in metrics}
    legend = stroke_legend(symbolStrokeColor="gray", symbolSize=600, labelLimit=240)
    dashes = alt.Scale(domain=[*names.values()], range=[[7, 2], [3, 2], [1, 2], [7, 2, 1, 2], [4, 1]])
    dash = alt.StrokeDash("baseline:N", title="baseline", scale=dashes, legend=legend)
    rule = alt.Chart().mark_rule(color="gray", strokeWidth=1.2).encode(y="mean:Q", strokeDash=dash)
    return named(rule.transform_filter(alt.FieldOneOfPredicate("metric", [*names])), baseline=names)
