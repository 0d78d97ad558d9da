"""Chart specifications (Altair, Vega-Lite) over points of `aggregate.over_runs`, each with its "condition". No files.

Figures of a run, the report and the dashboard draw the same charts: the first two with the points inside (`inline`),
the dashboard with the name of a source that it feeds (altair.NamedData). Colours that depend on light or dark come from
`theme`.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import PLACES, Catalogue, Kind, Metric, View, belonging
from taskcluster.pages import compared
from taskcluster.pages.marks import axis, band, bars, each_run, inline, told
from taskcluster.results.aggregate import FOR_CHARTS
from taskcluster.views import mapped, shown

Points = Sequence[dict[str, Any]]
Chart = alt.FacetChart | alt.HConcatChart | alt.LayerChart

COLUMNS = 4  # panels in a row, of metrics by layer

BESIDE: dict[str, Kind] = {"baselines": "baseline", "nuisance": "nuisance"}  # charts of what metrics are compared with

SPLIT = "datum.value == 'val' ? 'validation' : datum.value"  # in words
TOLD = ("condition", "metric", "split", "layer", "step", "n", "mean", "lower", "upper")  # of a point, in every chart
LINES = (*TOLD, *FOR_CHARTS)  # in charts of lines
OVER_MAP = ("lower_over_map", "upper_over_map")  # in maps besides
ALL_CELLS = ("_over_map", "in all cells")
FIELDS = ("condition:N", "split:N", "layer:O", "step:Q")
OVER_STEPS = ("lower_over_steps", "upper_over_steps")  # in curves of a report


def of_conditions(points: Points, known: Catalogue) -> dict[str, Chart]:
    """The charts of a page by name, from points of every metric and step, as the catalogue asks for them."""
    ends = {point["condition"]: point["step"] for point in points}  # the last step of each
    many, measured = len(ends) > 1, {point["metric"] for point in points}

    def of(metrics: Sequence[Metric], last: bool = False, fields: Sequence[str] = LINES) -> alt.Data:
        keys = {metric.key for metric in metrics}
        chosen = [point for point in points if point["metric"] in keys]
        return inline([p for p in chosen if p["step"] == ends[p["condition"]]] if last else chosen, fields)

    def wanted(view: View, by_layer: bool) -> list[Metric]:
        return [metric for metric in shown(known, view, by_layer) if metric.key in measured]

    there = {key: metric for key, metric in known.items() if key in measured}
    of_curves = (*LINES, *OVER_STEPS)
    curves: dict[str, Chart] = {}
    for metric in wanted("curves", True):
        beside = [other for other in belonging(there, metric, "baseline") if not other.by_layer]
        data = of([metric, *beside], fields=of_curves)
        curves[metric.key] = against_step(data, metric, _titled(metric), many, beside, bands=True)
    by_layer = {
        f"{group[0].key}_by_layer": by_layer_at_the_end(of(group, last=True), group)
        for group in alike(wanted("layers", True))
    }
    once = wanted("curves", False)
    title = listed([m.label for m in once])
    learned = {"learning": learning(of(once, fields=of_curves), once, title, bands=True)} if once else {}
    first = dict(list(curves.items())[:1])
    maps: dict[str, Chart] = {}
    if tiled := mapped(there, "map"):
        maps["map"] = by_layer_and_step(of(tiled, fields=(*TOLD, *OVER_MAP)), tiled, by_condition=many)
    if tiled := mapped(there, "path"):
        maps["path"] = by_layer_and_position(of(tiled, last=True, fields=(*TOLD, *OVER_MAP)), tiled, by_condition=many)
    asides: dict[str, Chart] = {}
    for name, kind in BESIDE.items():
        if grouped := compared.groups(there, kind):
            chosen = [metric for of_group, others in grouped for metric in (of_group, *others)]
            asides[name] = compared.by_layer(of(chosen, last=True), grouped, kind, in_rows(many))
    return first | maps | by_layer | asides | learned | curves


def alike(metrics: Sequence[Metric]) -> list[list[Metric]]:
    """The metrics in groups that one axis serves."""
    groups: dict[Any, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault((metric.name, metric.axis, metric.low, metric.high), []).append(metric)
    return list(groups.values())


def listed(words: Sequence[str]) -> str:
    return ", and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def theme(dark: bool = False) -> dict[str, Any]:
    """Vega-Lite's `config`: later layers contrast with the background, bands are translucent."""
    ink = "#dddddd" if dark else "#333333"
    return {
        "background": "transparent" if dark else "white",
        "range": {"ordinal": {"scheme": "viridis", "extent": [0.15, 1] if dark else [0.95, 0]}},
        "axis": {"gridColor": "#444444" if dark else "#e6e6e6", "domainColor": ink, "tickColor": ink},
        "view": {"stroke": None},
        "legend": {"labelColor": ink, "titleColor": ink, "symbolStrokeWidth": 2},
        "header": {"labelColor": ink, "titleColor": ink},
        "style": {name: {"fill": ink} for name in ("guide-label", "guide-title", "group-title", "group-subtitle")},
    }


def against_step(
    data: Any,
    metric: Metric,
    title: str,
    by_condition: bool = False,
    beside: Sequence[Metric] = (),
    bands: bool = False,
) -> Chart:
    """One line a layer with the band of its interval, or with few runs as thin lines, train beside validation;
    `by_condition`: a row for each; beside: baselines, each a dashed rule; `bands`: behind it, lighter, the band that
    holds at all steps at once."""
    color = alt.Color("layer:O", title="layer", legend=alt.Legend(symbolOpacity=1, symbolType="stroke"))
    panel = _lines(color, axis(metric, data), bands)
    if beside:
        panel = alt.layer(panel.transform_filter(alt.datum.metric == metric.key), compared.rules(beside))
    panel = panel.properties(width=320, height=240 - 60 * by_condition)
    return panel.add_params(_zoom()).facet(column=_splits(), **in_rows(by_condition), data=data).properties(title=title)


def layer_by_condition(data: Any, metric: Metric, title: str) -> Chart:
    """One layer: a line a condition, train beside validation."""
    panel = _lines(_conditions(), axis(metric, data)).properties(width=320, height=240)
    return panel.add_params(_zoom()).facet(column=_splits(), data=data).properties(title=title)


def learning(data: Any, metrics: Sequence[Metric], title: str, bands: bool = False) -> Chart:
    """Metrics without layers side by side, over the same steps: a line a condition, train dashed; `bands`: see
    `against_step`."""
    panels = []
    for metric in metrics:
        y = axis(metric, data, alone=True)
        panel = _lines(_conditions(), y, bands, strokeDash=_dashes()).properties(width=320, height=240)
        panels.append(panel.transform_filter(alt.datum.metric == metric.key).add_params(_zoom(metric.key)))
    return alt.hconcat(*panels, data=data).properties(title=title)


def by_layer_at_the_end(data: Any, metrics: Sequence[Metric]) -> Chart:
    """Metrics of one axis by layer, a column for each: a line a condition with intervals, train dashed."""
    where = {metric.key: metric.where for metric in metrics}
    x = alt.X("layer:O", title="layer (0: embedding)", axis=alt.Axis(labelAngle=0))
    base, y = alt.Chart().encode(x=x, color=_conditions(), detail="split:N"), axis(metrics[0], data)
    runs = each_run(base, strokeDash=_dashes())
    lines = base.mark_line().encode(y=y, strokeDash=_dashes())
    points = told(base.mark_circle(size=40, opacity=1).encode(y=y), FIELDS)
    panel = alt.layer(bars(base), *runs, lines, points).properties(width=240, height=240)
    panels = _side_by_side(panel, [*where.values()], data)
    return panels.transform_calculate(where=f"({where})[datum.metric]").properties(
        title=f"{metrics[0].name} by layer at the last step"
    )


def by_layer_and_step(data: Any, metrics: Sequence[Metric], by_condition: bool = False) -> Chart:
    """Metrics between 0 and 1 on validation as maps, layer against step, a column for each; `by_condition`: a row for
    each."""
    titles = {metric.key: f"{metric.name}, {metric.where}" for metric in metrics}
    tiles = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=alt.X("step:O", title="step (optimizer updates)", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("layer:O", title="layer (0: embedding)", sort="descending"),
            color=_shade(),
        )
        .properties(width=320, height=200)
    )
    panel = told(tiles, FIELDS, ALL_CELLS)
    return (
        _side_by_side(panel, [*titles.values()], data, in_rows(by_condition))
        .transform_filter(alt.datum.split == "val")
        .transform_calculate(where=f"({titles})[datum.metric]")
        .properties(title="By layer and step, on validation")
    )


def by_layer_and_position(data: Any, metrics: Sequence[Metric], by_condition: bool = False) -> Chart:
    """Metrics between 0 and 1 on validation as maps, position against layer at the last step, a column for each name;
    `by_condition`: a row for each. Metrics of one name are at different positions, put into the order of the prompt.
    """
    order = [*dict.fromkeys(place(metric) for metric in sorted(metrics, key=_in_the_prompt))]
    names, places = {m.key: _with_edit(m, metrics) for m in metrics}, {m.key: place(m) for m in metrics}
    tiles = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=alt.X("layer:O", title="layer (0: embedding)", scale=_gaps(), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("place:N", title=None, scale=_gaps(domain=order), axis=alt.Axis(labelLimit=320)),
            color=_shade(),
        )
        .properties(width=320, height=alt.Step(34))
    )
    panel = told(tiles, ("place:N", *FIELDS), ALL_CELLS)
    column = alt.Column("name:N", title=None, sort=[*dict.fromkeys(names.values())], header=alt.Header(labelLimit=320))
    return (
        panel.facet(column=column, **in_rows(by_condition), data=data)
        .transform_filter(alt.datum.split == "val")
        .transform_calculate(name=f"({names})[datum.metric]", place=f"({places})[datum.metric]")
        .properties(title="By position and layer at the last step, on validation")
    )


def place(metric: Metric) -> str:
    """Its position in words."""
    return PLACES.get(metric.position, metric.position)


def tsne(data: Any, n_tasks: int, title: str) -> Chart:
    """Points {"x", "y", "task", "step", "layer"}: a row of panels a checkpoint, a column a layer, a colour a task."""
    panel = (
        alt.Chart()
        .mark_circle(size=14, opacity=0.8)
        .encode(
            x=alt.X("x:Q", axis=None),
            y=alt.Y("y:Q", axis=None),
            color=alt.Color("task:Q", scale=alt.Scale(scheme="sinebow", domain=[0, n_tasks]), legend=None),
            tooltip=["task:Q"],
        )
        .properties(width=210, height=210)
    )
    grid = panel.facet(row=alt.Row("step:O", title="step"), column=alt.Column("layer:O", title="layer"), data=data)
    return grid.resolve_scale(x="independent", y="independent").properties(title=title)


def _lines(color: alt.Color, y: alt.Y, bands: bool = False, **dashes: alt.StrokeDash) -> Any:
    """A line for each colour, against the step, with a band, or with thin lines of few runs; what the pointer is on is
    named; `bands`: see `against_step`."""
    x = alt.X("step:Q", title="step (optimizer updates)", axis=alt.Axis(grid=False))
    base = alt.Chart().encode(x=x, color=color, detail="split:N")

    behind = [band(base, *OVER_STEPS, 0.07)] if bands else []
    points = told(base.mark_circle(size=18, opacity=1).encode(y=y), FIELDS)
    lines = base.mark_line().encode(y=y, **dashes)
    return alt.layer(*behind, band(base, "lower", "upper", 0.2), *each_run(base, False, **dashes), lines, points)


def _shade() -> alt.Color:
    return alt.Color("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], scheme="viridis", clamp=True))


def _with_edit(metric: Metric, metrics: Sequence[Metric]) -> str:
    """Its name, with what `where` says beside the place, if that is the same for all metrics of the name."""
    said = {other.where.removeprefix(place(other)) for other in metrics if other.name == metric.name}
    return metric.name + (said.pop() if len(said) == 1 else "")


def _gaps(**others: Any) -> alt.Scale:
    """Between tiles, so that neighbours of one colour are told apart."""
    return alt.Scale(paddingInner=0.03, **others)


def _in_the_prompt(metric: Metric) -> int:
    """Where its position is in the order of the prompt; one that has no place there comes last."""
    return [*PLACES, metric.position].index(metric.position)


def _zoom(panel: str = "") -> alt.Parameter:
    """Steps are zoomed with the wheel and moved by dragging."""
    return alt.selection_interval(name=f"steps_{panel}", bind="scales", encodings=["x"])


def _titled(metric: Metric) -> str:
    return f"{metric.label}, {metric.where}".rstrip(", ")


def _conditions() -> alt.Color:
    legend = alt.Legend(labelLimit=300, symbolOpacity=1, symbolType="stroke")
    return alt.Color("condition:N", title=None, sort=None, legend=legend)


def _side_by_side(panel: Any, places: Sequence[str], data: Any, rows: dict[str, Any] | None = None) -> Any:
    """A column for each value of the field "where"; without rows, more than `COLUMNS` are in several lines."""
    titled: dict[str, Any] = {"title": None, "sort": places, "header": alt.Header(labelLimit=320)}
    if rows or len(places) <= COLUMNS:
        return panel.facet(column=alt.Column("where:N", **titled), **(rows or {}), data=data)
    return panel.facet(facet=alt.Facet("where:N", **titled), columns=COLUMNS, data=data)


def in_rows(by_condition: bool) -> dict[str, Any]:
    """A row for each condition, its name above it, or none."""
    header = alt.Header(labelOrient="top", labelAngle=0, labelAnchor="start", labelPadding=0, labelLimit=640)
    row = alt.Row("condition:N", title=None, sort=None, header=header)
    return {"row": row, "spacing": {"row": 16, "column": 20}} if by_condition else {}


def _splits() -> alt.Column:
    return alt.Column("split:N", title=None, header=alt.Header(labelExpr=SPLIT))


def _dashes() -> alt.StrokeDash:
    scale = alt.Scale(domain=["train", "val"], range=[[4, 3], [1, 0]])
    legend = alt.Legend(symbolType="stroke", symbolStrokeColor="gray", symbolOpacity=1, labelExpr=SPLIT)
    return alt.StrokeDash("split:N", title=None, scale=scale, legend=legend)
