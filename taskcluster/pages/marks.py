"""What charts share: axes that follow means and runs, not intervals; runs as thin lines; intervals; tooltips.

in:  a base chart with its x and its colours, over points of `aggregate.over_runs`
out: layers and encodings of a panel
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from taskcluster.metrics import Metric
from taskcluster.results.intervals import DRAWN

DIGITS = ".3f"


def inline(points: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> alt.Data:
    """Points as part of the specification: all of them, or these fields."""
    return alt.Data(values=[{key: point[key] for key in fields or point} for point in points])


def axis(metric: Metric, data: Any, alone: bool = False) -> alt.Y:
    """The axis of metrics of one range: all of it, or where it has no end from or to the means and the runs in `data`,
    `alone`: those of this metric. Of a named source, what draws it sets the ends."""
    low, high = metric.low, metric.high
    if low is not None and high is not None:
        return alt.Y("mean:Q", title=metric.axis, scale=alt.Scale(domain=[low, high], clamp=True))
    points = [p for p in getattr(data, "values", ()) if not alone or p["metric"] == metric.key]
    values = [p[key] for p in points for key in ("mean", "least", "most") if p[key] is not None]
    scale = alt.Scale(zero=low is not None)
    if values:
        from_, to = min(values), max(values)
        from_, to = from_ if low is None else min(low, from_), to if high is None else max(high, to)
        room = 0.0 if to > from_ else abs(to) / 10 or 1.0
        scale = alt.Scale(domain=[from_ - room * (low is None), to + room * (high is None)], nice=True, zero=False)
    return alt.Y("mean:Q", title=metric.axis, scale=scale)


def each_run(base: alt.Chart, dots: bool = False, **encoding: Any) -> list[Any]:
    """A layer with a thin line for each run, where they are few. `dots`: small dots instead, where no line leads from
    one value of x to the next."""
    mark = base.mark_circle(size=12, opacity=0.5) if dots else base.mark_line(strokeWidth=0.8, opacity=0.5)
    fields = [f"runs[{run}]" for run in range(DRAWN - 1)]
    lines = [mark.encode(y=alt.Y(f"{field}:Q", title=""), **encoding) for field in fields]
    there = [f"datum.runs && isValid(datum.{field})" for field in fields]
    return [line.transform_filter(test) for line, test in zip(lines, there, strict=True)]


def band(base: alt.Chart, lower: str, upper: str, opacity: float) -> Any:
    area = base.mark_area(fillOpacity=opacity, clip=True).encode(y=alt.Y(f"{lower}:Q", title=""), y2=f"{upper}:Q")
    return area.transform_filter(_in_band(lower))


def bars(base: alt.Chart, opacity: float = 1) -> Any:
    rule = base.mark_rule(opacity=opacity, clip=True).encode(y=alt.Y("lower:Q", title=""), y2="upper:Q")
    return rule.transform_filter(_in_band("lower"))


def told(mark: Any, fields: Sequence[Any], *intervals: tuple[str, str]) -> Any:
    """A mark that is told by its fields, the mean, and its intervals in words: the pointwise one, and others, (ending
    of the fields of their ends, title)."""
    titled = [("", "95 % interval"), *intervals]
    texts = {f"interval{ending}": _in_words(f"lower{ending}", f"upper{ending}") for ending, _ in titled}
    numbers = [alt.Tooltip("mean:Q", format=DIGITS)]
    numbers += [alt.Tooltip(f"interval{ending}:N", title=title) for ending, title in titled]
    return mark.encode(tooltip=[*fields, *numbers, alt.Tooltip("n:Q", title="runs")]).transform_calculate(**texts)


def _in_band(lower: str) -> str:
    """Whether an interval is drawn: there is one, and runs are too many to draw each."""
    return f"isValid(datum.{lower}) && !datum.runs"


def _in_words(lower: str, upper: str) -> str:
    numbers = f"format(datum.{lower}, '{DIGITS}') + ' to ' + format(datum.{upper}, '{DIGITS}')"
    same = f"datum.{lower} === datum.{upper} ? 'the same in all runs' : {numbers}"
    return f"isValid(datum.{lower}) ? {same} : 'too few runs'"
