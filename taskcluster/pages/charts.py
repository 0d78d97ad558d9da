"""Chart specifications (Altair, Vega-Lite) over points of `points.over_runs`, each with its "condition". No files.

The figures of a run, the report and the dashboard draw the same charts: the first two with the points inside
(`inline`), the dashboard with the name of a source that it feeds (altair.NamedData). Colours that depend on light or
dark come from `theme`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import altair as alt

from taskcluster.metrics import Catalogue, Kind, Metric, belonging
from taskcluster.pages import comparison_charts, marks
from taskcluster.pages.layout import CONDITIONS
from taskcluster.pages.marks import Chart, Points
from taskcluster.views import mapped, shown

PER_ROW = 4  # panels of metrics by layer
BESIDE: dict[str, Kind] = {"baselines": "baseline", "nuisance": "nuisance"}  # charts of what metrics are compared with
RAMP = ["#3f6fd6", "#1f97b5", "#2fa36b", "#9aa02a", "#dd8a1f", "#d8533f", "#c23a8b"]  # on light and dark ground
FIELDS = ("condition:N", "split:N", "layer:O", "step:Q")  # in tooltips


class Drawing(NamedTuple):
    """A chart of a page, but for its points.

    draw: gives the chart from the source of its points. metrics: whose points it shows; panels: the panel of each.
    needs: a condition without any of these metrics has no such chart. last: whether it shows the last step alone.
    across: whether it shows all conditions in one panel.
    """

    draw: Callable[[alt.Data | alt.NamedData], Chart]
    metrics: Sequence[Metric]
    panels: Mapping[str, str]
    needs: Sequence[Metric]
    last: bool = True
    across: bool = False


def condition_charts(points: Points, known: Catalogue) -> dict[str, Chart]:
    """The charts of a page by name, from points of every metric and step, as the catalogue asks for them, the one that
    main chart first: for several conditions, one layer of each against the step; for one, all layers; for a single
    step, by layer."""
    last_step = {point["condition"]: point["step"] for point in points}
    first_step = {point["condition"]: point["step"] for point in reversed(points)}
    several, single = len(last_step) > 1, first_step == last_step
    steps: dict[str, set[int]] = {}
    for point in points:
        steps.setdefault(point["metric"], set()).add(point["step"])
    known = {key: metric for key, metric in known.items() if key in steps}
    followed = {key: metric for key, metric in known.items() if single or len(steps[key]) > 1}

    def data(metrics: Sequence[Metric], last: bool = False, across: bool = False) -> alt.Data:
        keys = {metric.key for metric in metrics}
        chosen = [p for p in points if p["metric"] in keys and (not last or p["step"] == last_step[p["condition"]])]
        return marks.inline(marks.dodged(chosen, known, "layer" if last else "step") if across and several else chosen)

    over_steps: dict[str, Chart] = {}
    curves: dict[str, Chart] = {}
    for metric in () if single else shown(followed, "curves", by_layer=True):
        baselines = [other for other in belonging(known, metric, "baseline") if not other.by_layer]
        curves[metric.key] = against_step(data([metric, *baselines]), metric, several, baselines, bands=True)
        if several:
            chosen = data([metric], across=True)
            over_steps[f"{metric.key}_over_steps"] = _of_one_layer(chosen, layer_by_condition(chosen, metric), metric)
    drawn = drawings(
        known, shown(known, "layers", by_layer=True), several, bands=True, single=single, followed=followed
    )
    charts = {name: one.draw(data(one.metrics, one.last, one.across)) for name, one in drawn.items()}
    first = dict([*(over_steps or curves).items()][:1])
    return first | charts | over_steps | curves


def _of_one_layer(data: alt.Data, chart: Any, metric: Metric) -> Chart:
    """The chart of one layer, which the reader can choose; initially the last layer of each condition."""
    deepest: dict[str, int] = {}
    for point in data.values:
        deepest[point["condition"]] = max(deepest.get(point["condition"], 0), point["layer"])
    chosen = f"layer === 'last' ? datum.layer === ({json.dumps(deepest)})[datum.condition] : datum.layer === layer"
    options = alt.binding_select(options=["last", *range(max(deepest.values(), default=0) + 1)], name="layer ")
    chart = chart.transform_filter(chosen).add_params(alt.param("layer", value="last", bind=options))
    return chart.properties(title=f"{metric.title}, one layer of each condition")


def drawings(
    known: Catalogue,
    layered: Sequence[Metric],
    by_condition: bool = False,
    bands: bool = False,
    single: bool = False,
    followed: Catalogue | None = None,
) -> dict[str, Drawing]:
    """The charts that a page has beside the curves by layer, by name. layered: the metrics drawn by layer at the last
    step; by_condition: whether a chart has a row for each condition; bands: see `against_step`; single: whether every
    condition has a single step; followed: the metrics of several steps, which maps show, all by default."""
    found = {}
    if not single and (once := shown(known, "curves", by_layer=False)):
        draw, panels = partial(learning, metrics=once, bands=bands), {metric.key: metric.key for metric in once}
        found["learning"] = Drawing(draw, once, panels, once, last=False, across=True)
    for group in alike(layered):
        draw, panels = partial(by_layer_at_the_end, metrics=group), {metric.key: metric.where for metric in group}
        found[f"{group[0].key}_by_layer"] = Drawing(draw, group, panels, group, across=True)
    if tiled := mapped(known if followed is None else followed, "map"):
        draw = partial(by_layer_and_step, metrics=tiled, by_condition=by_condition, single=single)
        found["map"] = Drawing(draw, tiled, map_panels(tiled), shown(known, "map"), last=False)
    if tiled := mapped(known, "path"):
        draw = partial(by_layer_and_position, metrics=tiled, by_condition=by_condition)
        found["path"] = Drawing(draw, tiled, path_panels(tiled), shown(known, "path"))
    for name, kind in BESIDE.items():
        if groups := comparison_charts.groups(known, kind):
            draw = partial(comparison_charts.beside_by_layer, groups=groups, kind=kind, by_condition=by_condition)
            compared, others = [m for group in groups for m in group], [m for group in groups for m in group[1:]]
            found[name] = Drawing(draw, compared, comparison_charts.labels(groups, kind)["where"], others)
    return found


def alike(metrics: Sequence[Metric]) -> list[list[Metric]]:
    """The metrics in groups that one axis serves."""
    groups: dict[Any, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault((metric.name, metric.axis, metric.low, metric.high), []).append(metric)
    return list(groups.values())


def theme(dark: bool = False) -> dict[str, Any]:
    """Vega-Lite's `config`: colours mean the same on light and dark ground."""
    ink = "#dddddd" if dark else "#333333"
    return {
        "background": "transparent" if dark else "white",
        "range": {"ordinal": {"scheme": RAMP}, "category": [*CONDITIONS]},
        "axis": {"gridColor": "#444444" if dark else "#e6e6e6", "domainColor": ink, "tickColor": ink},
        "view": {"stroke": None},
        "legend": {"labelColor": ink, "titleColor": ink, "symbolStrokeWidth": 2},
        "header": {"labelColor": ink, "titleColor": ink},
        "style": {name: {"fill": ink} for name in ("guide-label", "guide-title", "group-title", "group-subtitle")},
    }


def against_step(
    data: Any, metric: Metric, by_condition: bool = False, baselines: Sequence[Metric] = (), bands: bool = False
) -> Chart:
    """One line a layer with the band of its interval, or with few runs as thin lines, train beside validation;
    `by_condition`: a row for each; baselines: each a dashed rule; `bands`: behind it, lighter, the band that holds at
    all steps at once."""
    color = alt.Color("layer:O", title="layer", legend=marks.stroke_legend())
    panel = _lines(color, marks.axis(metric, data), bands)
    if baselines:
        panel = alt.layer(panel.transform_filter(alt.datum.metric == metric.key), comparison_charts.rules(baselines))
    panel = panel.properties(width=320, height=240 - 60 * by_condition).add_params(_zoom())
    return panel.facet(column=marks.splits(), **marks.rows(by_condition), data=data).properties(
        title=marks.title(metric)
    )


def layer_by_condition(data: Any, metric: Metric) -> Chart:
    """One layer: a line a condition, train beside validation."""
    panel = _lines(_conditions(), marks.axis(metric, data)).properties(width=320, height=240)
    return panel.add_params(_zoom()).facet(column=marks.splits(), data=data).properties(title=marks.title(metric))


def learning(data: Any, metrics: Sequence[Metric], bands: bool = False) -> Chart:
    """Metrics without layers side by side, over the same steps: a line a condition, train dashed; `bands`: see
    `against_step`."""
    panels = []
    for metric in metrics:
        y = marks.axis(metric, data, alone=True)
        panel = _lines(_conditions(), y, bands, strokeDash=_dashes()).properties(width=320, height=240)
        panels.append(panel.transform_filter(alt.datum.metric == metric.key).add_params(_zoom(metric.key)))
    title = ", and ".join(metric.label for metric in metrics)
    return alt.concat(*panels, columns=PER_ROW, data=data).properties(title=title)


def by_layer_at_the_end(data: Any, metrics: Sequence[Metric]) -> Chart:
    """Metrics of one axis by layer, a column for each: a line a condition with intervals, train dashed."""
    where = {metric.key: metric.where for metric in metrics}
    base = alt.Chart().encode(x=marks.layers_axis(), color=_conditions(), detail="split:N")
    panel = marks.curve(base, marks.axis(metrics[0], data), FIELDS, strokeDash=_dashes()).properties(
        width=240, height=240
    )
    chart = marks.named(_side_by_side(panel, where.values(), data), where=where)
    return chart.properties(title=f"{metrics[0].name} by layer at the last step")


def by_layer_and_step(data: Any, metrics: Sequence[Metric], by_condition: bool = False, single: bool = False) -> Chart:
    """Metrics between 0 and 1 on validation as maps, layer against step, a column for each; `by_condition`: a row for
    each; `single`: a strip of layers, as there is one step."""
    x = alt.X("step:O", title="step (optimizer updates)", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"))
    y = alt.Y("layer:O", title="layer (0: embedding)", sort="descending", axis=alt.Axis(labelOverlap="greedy"))
    tiles = _tiles(marks.layers_axis(), None, FIELDS) if single else _tiles(x, y, FIELDS)
    panel = tiles.properties(width=320, height=34 if single else 200)
    where = map_panels(metrics)
    chart = _side_by_side(panel, where.values(), data, marks.rows(by_condition))
    chart = marks.named(chart.transform_filter(alt.datum.split == "val"), where=where)
    return chart.properties(title=f"By layer{'' if single else ' and step'}, on validation")


def map_panels(metrics: Sequence[Metric]) -> dict[str, str]:
    """The panel of each metric in `by_layer_and_step`."""
    return {metric.key: f"{metric.name}, {metric.where}" for metric in metrics}


def by_layer_and_position(data: Any, metrics: Sequence[Metric], by_condition: bool = False) -> Chart:
    """Metrics between 0 and 1 on validation as maps, position against layer at the last step, a column for each name;
    `by_condition`: a row for each. Metrics of one name are at different positions, in the order of the prompt.
    """
    gap = alt.Scale(paddingInner=0.03)  # tells neighbours of one colour apart
    y = alt.Y("place:N", title=None, scale=gap, sort=marks.places(metrics), axis=alt.Axis(labelLimit=320))
    panel = _tiles(marks.layers_axis().scale(gap), y, ("place:N", *FIELDS)).properties(width=320, height=alt.Step(34))
    name = path_panels(metrics)
    chart = panel.facet(column=marks.column("name", name.values()), **marks.rows(by_condition), data=data)
    chart = marks.named(
        chart.transform_filter(alt.datum.split == "val"), name=name, place={m.key: marks.place(m) for m in metrics}
    )
    return chart.properties(title="By position and layer at the last step, on validation")


def path_panels(metrics: Sequence[Metric]) -> dict[str, str]:
    """The panel of each metric in `by_layer_and_position`: its name, with what `where` says beside the place, if that
    is the same for all metrics of the name."""
    edits: dict[str, set[str]] = {}
    for metric in metrics:
        edits.setdefault(metric.name, set()).add(metric.where.removeprefix(marks.place(metric)))
    return {m.key: m.name + (min(edits[m.name]) if len(edits[m.name]) == 1 else "") for m in metrics}


def tsne(data: Any, n_tasks: int, title: str) -> Chart:
    """Points {"x", "y", "task", "step", "layer"}: a row of panels a checkpoint, a column a layer, a colour a task."""
    color = alt.Color("task:Q", scale=alt.Scale(scheme="sinebow", domain=[0, n_tasks]), legend=None)
    x, y = alt.X("x:Q", axis=None), alt.Y("y:Q", axis=None)
    panel = alt.Chart(width=210, height=210).mark_circle(size=14, opacity=0.8)
    panel = panel.encode(x=x, y=y, color=color, tooltip=["task:Q"])
    grid = panel.facet(row=alt.Row("step:O", title="step"), column=alt.Column("layer:O", title="layer"), data=data)
    return grid.resolve_scale(x="independent", y="independent").properties(title=title)


def _lines(color: alt.Color, y: alt.Y, bands: bool = False, **dashes: alt.StrokeDash) -> Any:
    """A line for each colour, against the step, with a band, or with thin lines of few runs; `bands`: see
    `against_step`."""
    x = alt.X("step:Q", title="step (optimizer updates)", axis=alt.Axis(grid=False))
    base = alt.Chart().encode(x=x, color=color, detail="split:N")
    behind = [marks.band(base, y, "lower_over_steps", "upper_over_steps", 0.07)] if bands else []
    points = marks.tooltip(base.mark_circle(size=18, opacity=1).encode(y=y), FIELDS)
    line = base.mark_line().encode(y=y, **dashes)
    return alt.layer(
        *behind, marks.band(base, y, "lower", "upper", 0.2), *marks.each_run(base, False, **dashes), line, points
    )


def _tiles(x: alt.X, y: alt.Y | None, fields: Sequence[str]) -> Any:
    color = alt.Color("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], scheme="viridis", clamp=True))
    return marks.tooltip(
        alt.Chart().mark_rect().encode(x=x, y=y or alt.Undefined, color=color), fields, ("_over_map", "in all cells")
    )


def _zoom(panel: str = "") -> alt.Parameter:
    """Steps are zoomed with the wheel and moved by dragging."""
    return alt.selection_interval(name=f"steps_{panel}", bind="scales", encodings=["x"])


def _conditions() -> alt.Color:
    return alt.Color("condition:N", title=None, sort=None, legend=marks.stroke_legend(labelLimit=300))


def _side_by_side(panel: Any, values: Any, data: Any, in_rows: Any = None) -> Any:
    """A column for each value of the field "where"; without rows, more than PER_ROW are in several lines."""
    order = [*dict.fromkeys(values)]
    if in_rows or len(order) <= PER_ROW:
        return panel.facet(column=marks.column("where", order), **(in_rows or {}), data=data)
    facet = alt.Facet("where:N", title=None, sort=order, header=alt.Header(labelLimit=320))
    return panel.facet(facet=facet, columns=PER_ROW, data=data)


def _dashes() -> alt.StrokeDash:
    scale = alt.Scale(domain=["train", "val"], range=[[4, 3], [1, 0]])
    legend = marks.stroke_legend(symbolStrokeColor="gray", labelExpr=marks.SPLIT)
    return alt.StrokeDash("split:N", title=None, scale=scale, legend=legend)
