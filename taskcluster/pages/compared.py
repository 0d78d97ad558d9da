"""Charts of metrics beside what they are compared with: baselines, and the same clusters against other labels.

in:  points of the last step, of metrics and of those that are compared with them (`Metric.of`, the view "beside")
out: a line for each by layer, a rule across the panel for one number
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Catalogue, Kind, Metric
from taskcluster.pages.marks import axis, bars, each_run, told
from taskcluster.views import shown

ITSELF = {"baseline": "trained network", "nuisance": "task"}  # what the metric is called beside others of this kind
TITLES = {
    "baseline": "ARI beside baselines, by layer at the last step, on validation",
    "nuisance": "What the clusters are of: their ARI against each label, by layer at the last step, on validation",
}
THIN = [5, 3]  # dashes


def groups(known: Catalogue, kind: Kind) -> list[tuple[Metric, list[Metric]]]:
    """The metrics that have others of this kind beside them, each with these."""
    others = [metric for metric in shown(known, "beside") if metric.kind == kind]
    of = dict.fromkeys(metric.of for metric in others if metric.of in known)
    return [(known[key], [metric for metric in others if metric.of == key]) for key in of]


def labels(grouped: Sequence[tuple[Metric, Sequence[Metric]]], kind: Kind) -> dict[str, dict[str, str]]:
    """For each field of a point its value by metric: label, its line; where, its panel; role, how it is drawn."""
    pairs = [(metric, of) for of, others in grouped for metric in (of, *others)]
    return {
        "label": {m.key: ITSELF[kind] if m is of else m.where for m, of in pairs},
        "where": {m.key: of.where for m, of in pairs},
        "role": {m.key: "itself" if m is of else "beside" for m, of in pairs},
    }


def by_layer(data: Any, grouped: Sequence[tuple[Metric, Sequence[Metric]]], kind: Kind, rows: dict[str, Any]) -> Any:
    """A column for each metric, with the others as dashed lines; rows: encoding of a row for each condition, if any."""
    fields = labels(grouped, kind)
    first, order = grouped[0][0], [*dict.fromkeys(fields["label"].values())]
    x = alt.X("layer:O", title="layer (0: embedding)", axis=alt.Axis(labelAngle=0))
    y = axis(first, data)
    legend = alt.Legend(labelLimit=240, symbolOpacity=1, symbolType="stroke")
    base = alt.Chart().encode(color=alt.Color("label:N", title=None, sort=order, legend=legend))
    named = ("label:N", "condition:N", "layer:O")
    of_layers = base.transform_filter("isValid(datum.layer)").encode(x=x)
    itself, others = "datum.role === 'itself'", "datum.role === 'beside'"
    panel = alt.layer(
        bars(of_layers),
        *(line.transform_filter(itself) for line in each_run(of_layers)),
        of_layers.mark_line(strokeWidth=1.5, strokeDash=THIN).encode(y=y).transform_filter(others),
        of_layers.mark_line(strokeWidth=3).encode(y=y).transform_filter(itself),
        told(of_layers.mark_circle(size=30, opacity=1).encode(y=y), named),
        told(base.mark_rule(strokeWidth=1.5, strokeDash=THIN).encode(y=y), named).transform_filter(
            "!isValid(datum.layer)"
        ),
    ).properties(width=300, height=240)
    header = alt.Header(labelLimit=320)
    column = alt.Column("where:N", title=None, sort=[*fields["where"].values()], header=header)
    chart = panel.facet(column=column, **rows, data=data).transform_filter(alt.datum.split == "val")
    return chart.transform_calculate(**{name: f"({of})[datum.metric]" for name, of in fields.items()}).properties(
        title=TITLES[kind]
    )


def rules(metrics: Sequence[Metric]) -> Any:
    """Across a panel of validation against the step, each metric's one number, with dashes of its own."""
    names = {metric.key: metric.where for metric in metrics}
    legend = alt.Legend(symbolType="stroke", symbolStrokeColor="gray", symbolOpacity=1, symbolSize=600, labelLimit=240)
    dashes = alt.Scale(domain=[*names.values()], range=[[7, 2], [3, 2], [1, 2], [7, 2, 1, 2], [4, 1]])
    return (
        alt.Chart()
        .mark_rule(color="gray", strokeWidth=1.2)
        .encode(y="mean:Q", strokeDash=alt.StrokeDash("baseline:N", title="baseline", scale=dashes, legend=legend))
        .transform_filter(alt.FieldOneOfPredicate("metric", [*names]))
        .transform_calculate(baseline=f"({names})[datum.metric]")
    )
