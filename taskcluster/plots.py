"""Tidy rows in, chart specifications out (Altair, Vega-Lite). No files: see figures.py."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from taskcluster.claims import layers_of

Points = list[dict[str, Any]]
Chart = alt.Chart | alt.FacetChart

SPLITS = {"train": "train", "val": "validation"}
ARI_SCALE = alt.Scale(domain=[0, 1], clamp=True)


def ari_against_step(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> Chart:
    """One line a layer, train and validation side by side, for a metric such as "ari" or "ari_within_x"."""
    points: Points = [
        {"split": name, "step": row["step"], "layer": layer, "ari": value}
        for split, name in SPLITS.items()
        for row in rows
        for layer, value in enumerate(layers_of(row, f"{metric}/{split}"))
    ]
    lines = (
        alt.Chart()
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("step:Q", title="step (optimizer updates)", axis=alt.Axis(grid=False)),
            y=alt.Y("ari:Q", title="adjusted Rand index", scale=ARI_SCALE),
            color=_layer_color(),
            tooltip=["step:Q", "layer:O", alt.Tooltip("ari:Q", format=".3f")],
        )
        .properties(width=320, height=240)
    )
    return lines.facet(column=alt.Column("split:N", title=None), data=_data(points)).properties(title=title)


def final_ari_by_layer(row: Mapping[str, Any], metrics: Mapping[str, str]) -> Chart:
    """The metrics, {name: label}, of one journal row by layer; train dashed, validation solid."""
    points: Points = [
        {"layer": layer, "ari": value, "clustering": label, "split": name}
        for metric, label in metrics.items()
        for split, name in SPLITS.items()
        for layer, value in enumerate(layers_of(row, f"{metric}/{split}"))
    ]
    dash = alt.Scale(domain=list(SPLITS.values()), range=[[4, 3], [1, 0]])
    return (
        alt.Chart(_data(points))
        .mark_line()
        .encode(
            x=alt.X("layer:O", title="layer (0: embedding)", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("ari:Q", title="adjusted Rand index", scale=ARI_SCALE),
            color=alt.Color("clustering:N", title=None, sort=list(metrics.values()), legend=alt.Legend(labelLimit=300)),
            strokeDash=alt.StrokeDash("split:N", title=None, scale=dash),
            tooltip=["clustering:N", "split:N", "layer:O", alt.Tooltip("ari:Q", format=".3f")],
        )
        .properties(width=420, height=260, title=f"ARI by layer at step {row['step']}")
    )


def tsne_grid(points: Points, n_tasks: int) -> Chart:
    """Points {"x", "y", "task", "step", "layer"}: a row of panels a checkpoint, a column a layer, a colour a task."""
    hues = alt.Scale(scheme="sinebow", domain=[0, n_tasks])
    panel = (
        alt.Chart()
        .mark_circle(size=14, opacity=0.8)
        .encode(
            x=alt.X("x:Q", axis=None),
            y=alt.Y("y:Q", axis=None),
            color=alt.Color("task:Q", scale=hues, legend=None),
            tooltip=["task:Q"],
        )
        .properties(width=210, height=210)
    )
    grid = panel.facet(
        row=alt.Row("step:O", title="step"), column=alt.Column("layer:O", title="layer"), data=_data(points)
    )
    title = "t-SNE of validation states at the end of the instruction, coloured by task"
    return grid.resolve_scale(x="independent", y="independent").properties(title=title)


def _layer_color() -> alt.Color:
    return alt.Color("layer:O", title="layer", scale=alt.Scale(scheme="viridis", reverse=True))


def _data(points: Iterable[Mapping[str, Any]]) -> alt.Data:
    return alt.Data(values=[dict(point) for point in points])
