"""Charts of metrics by two layers and by example, at the last step. No files.

in:  points of `points.matrix_points` with their condition; the numbers of the examples of a run
out: a map of layers by layers for each metric; a histogram
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import polars

from taskcluster.metrics import Catalogue, Metric
from taskcluster.pages.marks import DIGITS, Chart, Points, layers_axis, rows, splits, title
from taskcluster.runs.journal import finite
from taskcluster.views import shown

BINS = 30


def matrix_charts(points: Points, known: Catalogue) -> dict[str, Chart]:
    """A map for each metric by two layers; a row for each condition if there are several."""
    several = len({point["condition"] for point in points}) > 1
    of_metrics = ((m, [p for p in points if p["metric"] == m.key]) for m in shown(known, "matrix"))
    return {m.key: by_two_layers(alt.Data(values=chosen), m, several) for m, chosen in of_metrics if chosen}


def by_two_layers(data: Any, metric: Metric, by_condition: bool = False) -> Chart:
    """A map of layers by layers, train beside validation; `by_condition`: a row for each."""
    low, high = metric.low, metric.high
    ends = alt.Undefined if low is None or high is None else [low, high]
    scale = alt.Scale(scheme="viridis", domain=ends, clamp=True)
    panel = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=layers_axis(),
            y=alt.Y("other_layer:O", title="layer", sort="descending", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color("mean:Q", title=None, scale=scale),
            tooltip=["condition:N", "split:N", "layer:O", "other_layer:O", alt.Tooltip("mean:Q", format=DIGITS)],
        )
        .properties(width=260, height=260)
    )
    chart = panel.facet(column=splits(), **rows(by_condition), data=data)
    return chart.properties(title=title(metric))


def example_charts(examples: polars.DataFrame, known: Catalogue) -> dict[str, Chart]:
    """A histogram of each metric by example; those by layer have a row for each layer."""
    charts: dict[str, Chart] = {}
    for metric in shown(known, "examples"):
        columns = [name for name in examples.columns if name.split("/")[0] == metric.key]
        if bars := [bar for column in columns for bar in _bars(examples, column)]:
            charts[f"{metric.key}_by_example"] = _histogram(bars, metric)
    return charts


def _bars(examples: polars.DataFrame, column: str) -> list[dict[str, Any]]:
    """{"split", "layer", "from", "to", "share"} of the finite numbers, in BINS of one width for both splits."""
    values = {str(split): part[column].to_numpy() for (split,), part in examples.group_by("split", maintain_order=True)}
    values = {split: part[np.isfinite(part)] for split, part in values.items()}
    ends = np.histogram_bin_edges(np.concatenate([*values.values()]), BINS)
    layer = column.partition("/layer_")[2]
    return [
        {"split": split, "layer": layer and int(layer), "from": left, "to": right, "share": finite(float(share))}
        for split, part in values.items()
        for left, right, share in zip(ends[:-1], ends[1:], np.histogram(part, ends)[0] / max(len(part), 1), strict=True)
    ]


def _histogram(bars: Sequence[dict[str, Any]], metric: Metric) -> Chart:
    panel = (
        alt.Chart()
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X("from:Q", title=metric.axis, bin="binned"),
            x2="to:Q",
            y=alt.Y("share:Q", title="share of examples"),
            tooltip=[alt.Tooltip(f"{name}:Q", format=DIGITS) for name in ("from", "to", "share")],
        )
        .properties(width=320, height=80 if metric.by_layer else 160)
    )
    layers = {"row": alt.Row("layer:O", title="layer")} if metric.by_layer else {}
    chart = panel.facet(column=splits(), **layers, data=alt.Data(values=[*bars]))
    return chart.properties(title=f"{title(metric)}: examples at the last step")
