"""What charts share: axes that follow means and runs, not intervals; runs as thin lines; intervals; tooltips; facets.

in:  a base chart with its x and its colours, over points of `points.over_runs`
out: layers and encodings of a panel
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import altair as alt
from altair.utils.schemapi import debug_mode

from taskcluster.metrics import PLACES, Catalogue, Metric
from taskcluster.results.intervals import DRAWN

Points = Sequence[dict[str, Any]]
Chart = alt.FacetChart | alt.ConcatChart | alt.LayerChart

DIGITS = ".3f"
SPLIT = "datum.value == 'val' ? 'validation' : datum.value"  # in words
DODGE = 0.012  # share of an axis between two curves that are the same
MOST_MOVED = 5  # curves that are the same and are drawn beside each other
SAME = 0.004  # share of an axis; curves nowhere farther apart are the same
MOVED = "(datum.moved || 0)"  # by `dodged`
NOT_DRAWN = ("sd", "cells", "lower_over_layers", "upper_over_layers")


class Inline(alt.Data):
    """Points in a specification, which Altair neither checks nor copies: there may be a hundred thousand."""

    def __init__(self, values: Points) -> None:
        with debug_mode(False):
            super().__init__(values=values)

    def __deepcopy__(self, memo: object) -> "Inline":
        return self

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"values": self.values}


def inline(points: Sequence[Mapping[str, Any]]) -> Inline:
    """Points as part of the specification, without what is None, or no chart reads."""
    chosen = [{key: point[key] for key in point if key not in NOT_DRAWN} for point in points]
    return Inline([{k: v for k, v in point.items() if v is not None or k == "layer"} for point in chosen])


def dodged(points: Points, known: Catalogue, along: Literal["step", "layer"]) -> list[dict[str, Any]]:
    """Points in which curves of several conditions that are the same are beside each other: each is moved as a whole by
    a part of its axis, "moved", towards the middle, and tooltips have the number that was measured. along: what curves
    go along, the steps of a layer, or the layers of a step."""

    def key(p: Mapping[str, Any]) -> tuple[Any, ...]:
        return p["metric"], p["split"], p["layer" if along == "step" else "step"]

    curves: dict[tuple[Any, ...], dict[str, dict[Any, float]]] = {}
    for p in points:
        if p["mean"] is not None and known[p["metric"]].low is not None and known[p["metric"]].high is not None:
            curves.setdefault(key(p), {}).setdefault(p["condition"], {})[p[along]] = p["mean"]
    moved: dict[tuple[Any, ...], float] = {}
    for one_curve, by_condition in curves.items():
        low, high = known[one_curve[0]].low or 0.0, known[one_curve[0]].high or 1.0
        distinct: list[dict[Any, float]] = []
        for condition, curve in by_condition.items():
            same = [one for one in distinct if _apart(one, curve) < SAME * (high - low)]
            distinct.append(curve)
            towards = 1 if sum(curve.values()) / len(curve) < (low + high) / 2 else -1
            moved[*one_curve, condition] = towards * min(len(same), MOST_MOVED) * DODGE * (high - low)
    return [_moved(p, moved.get((*key(p), p["condition"]), 0.0)) for p in points]


def _apart(one: Mapping[Any, float], other: Mapping[Any, float]) -> float:
    """The largest distance of two curves, infinite where they have other steps."""
    return max(abs(value - other[step]) for step, value in one.items()) if one.keys() == other.keys() else math.inf


def _moved(point: dict[str, Any], by: float) -> dict[str, Any]:
    if not by:
        return point
    ends = [key for key in point if key in ("mean", "least", "most") or key.startswith(("lower", "upper"))]
    shifted = {key: point[key] + by for key in ends if point[key] is not None}
    runs = point["runs"] and [None if run is None else run + by for run in point["runs"]]
    return point | shifted | {"runs": runs, "moved": by}


def named(chart: Any, **fields: Mapping[str, str]) -> Any:
    """A chart whose points have further fields that follow from their metric: {key of a metric: value}."""
    return chart.transform_calculate(**{field: f"({dict(values)})[datum.metric]" for field, values in fields.items()})


def axis(metric: Metric, data: Any, alone: bool = False) -> alt.Y:
    """The axis of metrics of one range: all of it, or where it has no end from or to the means and the runs in `data`,
    `alone`: those of this metric. With a named source, the page sets the ends."""
    low, high = metric.low, metric.high
    if low is not None and high is not None:
        return alt.Y("mean:Q", title=metric.axis, scale=alt.Scale(domain=[low, high], clamp=True))
    points = [p for p in getattr(data, "values", ()) if not alone or p["metric"] == metric.key]
    drawn = [p[key] for p in points for key in ("mean", "least", "most") if p.get(key) is not None]
    if not drawn:
        return alt.Y("mean:Q", title=metric.axis, scale=alt.Scale(zero=low is not None))
    drawn += [end for end in (low, high) if end is not None]
    least, most = min(drawn), max(drawn)
    room = 0.0 if most > least else abs(most) / 10 or 1.0
    domain = [least - room * (low is None), most + room * (high is None)]
    return alt.Y("mean:Q", title=metric.axis, scale=alt.Scale(domain=domain, nice=True, zero=False))


def title(metric: Metric) -> str:
    return f"{metric.label}, {metric.where}".rstrip(", ")


def splits() -> alt.Column:
    return alt.Column("split:N", title=None, header=alt.Header(labelExpr=SPLIT))


def layers_axis() -> alt.X:
    return alt.X("layer:O", title="layer (0: embedding)", axis=alt.Axis(labelAngle=0, labelOverlap="greedy"))


def curve(
    base: alt.Chart, y: alt.Y, fields: Sequence[str], opacity: float = 1, dots: bool = False, **encoding: Any
) -> Any:
    """A panel with a line through the means, intervals of this opacity, thin lines of few runs, and points with a
    tooltip; `dots`: see `each_run`."""
    line = base.mark_line().encode(y=y, **encoding)
    points = tooltip(base.mark_circle(size=40, opacity=1).encode(y=y), fields)
    return alt.layer(bars(base, opacity), *each_run(base, dots, **encoding), line, points)


def each_run(base: alt.Chart, dots: bool = False, **encoding: Any) -> list[Any]:
    """A layer with a thin line for each run, if they are few. `dots`: small dots instead, where no line leads from one
    value of x to the next."""
    mark = base.mark_circle(size=12, opacity=0.5) if dots else base.mark_line(strokeWidth=0.8, opacity=0.5)
    fields = [f"runs[{run}]" for run in range(DRAWN - 1)]
    return [
        mark.encode(y=alt.Y(f"{field}:Q", title=""), **encoding).transform_filter(
            f"datum.runs && isValid(datum.{field})"
        )
        for field in fields
    ]


def band(base: alt.Chart, y: alt.Y, lower: str, upper: str, opacity: float) -> Any:
    """The area between two fields. Beyond the axis it is cut off, which takes most of the time of a picture and is left
    out where the axis `y` moves what is outside to its ends."""
    clip = alt.Undefined if y["scale"]["clamp"] is True else True
    area = base.mark_area(fillOpacity=opacity, clip=clip)
    area = area.encode(y=alt.Y(f"{lower}:Q", title=""), y2=f"{upper}:Q")
    return area.transform_filter(_has_interval(lower))


def bars(base: alt.Chart, opacity: float = 1) -> Any:
    rule = base.mark_rule(opacity=opacity, clip=True).encode(y=alt.Y("lower:Q", title=""), y2="upper:Q")
    return rule.transform_filter(_has_interval("lower"))


def tooltip(mark: Any, fields: Sequence[Any], *intervals: tuple[str, str]) -> Any:
    """A mark whose tooltip has the fields, the mean, and intervals in words: the pointwise one, and others, (ending of
    the fields of their ends, title)."""
    titles = {"": "95 % interval", **dict(intervals)}
    words = {f"interval{ending}": _in_words(f"lower{ending}", f"upper{ending}") for ending in titles}
    words["measured"] = f"datum.mean - {MOVED}"
    numbers = [alt.Tooltip("measured:Q", title="mean", format=DIGITS)]
    numbers += [alt.Tooltip(f"interval{ending}:N", title=title) for ending, title in titles.items()]
    return mark.encode(tooltip=[*fields, *numbers, alt.Tooltip("n:Q", title="runs")]).transform_calculate(**words)


def rows(by_condition: bool) -> dict[str, Any]:
    """A row for each condition, its name above it, or none."""
    header = alt.Header(labelOrient="top", labelAngle=0, labelAnchor="start", labelPadding=0, labelLimit=640)
    row = alt.Row("condition:N", title=None, sort=None, header=header)
    return {"row": row, "spacing": {"row": 16, "column": 20}} if by_condition else {}


def column(field: str, values: Iterable[str]) -> alt.Column:
    """A column for each of the values of a field, in this order."""
    return alt.Column(f"{field}:N", title=None, sort=[*dict.fromkeys(values)], header=alt.Header(labelLimit=320))


def stroke_legend(**options: Any) -> alt.Legend:
    return alt.Legend(symbolType="stroke", symbolOpacity=1, **options)


def place(metric: Metric) -> str:
    """Its position in words."""
    return PLACES.get(metric.position, metric.position)


def places(metrics: Sequence[Metric]) -> list[str]:
    """The positions of the metrics in words, in the order of the prompt; others come last."""
    in_order = sorted(metrics, key=lambda metric: [*PLACES, metric.position].index(metric.position))
    return [*dict.fromkeys(map(place, in_order))]


def _has_interval(lower: str) -> str:
    """Whether an interval is drawn: there is one, and runs are too many to draw each."""
    return f"isValid(datum.{lower}) && !datum.runs"


def _in_words(lower: str, upper: str) -> str:
    numbers = " + ' to ' + ".join(f"format(datum.{end} - {MOVED}, '{DIGITS}')" for end in (lower, upper))
    same = f"datum.{lower} === datum.{upper} ? 'the same in all runs' : {numbers}"
    return f"isValid(datum.{lower}) ? {same} : 'too few runs'"
