"""The finding of docs/found.md in two panels: clusters at the separator change no answers, clusters at x do.

in:  kept files of docs/results
out: a chart of ARI and causal effect by layer, at the separator and at x; means only, as the tables have the intervals
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import altair as alt

from taskcluster.pages import marks
from taskcluster.pages.marks import Chart

RESULTS = Path(__file__).parents[1] / "results"
ARI, EFFECT = "ARI of clusters and tasks", "answers flipped by moving a state to another cluster"
SEPARATOR, X = "at the separator", "at x (ARI within each x)"


def chart() -> Chart:
    added = "difference of centroids added"
    points = [
        *_points(SEPARATOR, ARI, _row("found_separator", "ARI")),
        *_points(SEPARATOR, EFFECT, _row("found_separator", added)),
        *_points(X, ARI, _column("depth_ari_within_x", "model.n_layer=6")),
        *_points(X, EFFECT, _row("found_x", added)),
    ]
    scale = alt.Scale(domain=[ARI, EFFECT], scheme="tableau10")
    base = alt.Chart().encode(
        x=marks.layers_axis(),
        y=alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1])),
        color=alt.Color(
            "name:N", title=None, sort=[ARI, EFFECT], scale=scale, legend=marks.stroke_legend(labelLimit=400)
        ),
    )
    panel = alt.layer(base.mark_line(strokeWidth=3), base.mark_circle(size=40, opacity=1))
    panel = panel.properties(width=320, height=200)
    return panel.facet(column=marks.column("place", (SEPARATOR, X)), data=alt.Data(values=points)).properties(
        title="Where the clusters matter: six layers, last step, validation, means of five seeds"
    )


def _points(place: str, name: str, cells: Sequence[str]) -> list[dict[str, str | int | float]]:
    means = [float(cell.split()[0]) for cell in cells]
    return [{"place": place, "name": name, "layer": layer, "mean": mean} for layer, mean in enumerate(means)]


def _read(file: str) -> list[list[str]]:
    with (RESULTS / f"{file}.csv").open(newline="") as lines:
        return list(csv.reader(lines))


def _row(file: str, name: str) -> list[str]:
    return next(row[1:] for row in _read(file) if row[0] == name)


def _column(file: str, name: str) -> list[str]:
    columns, *rows = _read(file)
    return [row[columns.index(name)] for row in rows]
