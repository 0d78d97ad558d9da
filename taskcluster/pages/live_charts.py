"""The charts of the live page, without points.

in:  the metrics of all runs
out: {"charts": [`entry`], "metrics": those that can be chosen, "tsne": a specification, "themes": {"light", "dark"}}
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import altair as alt

from taskcluster.metrics import Metric
from taskcluster.pages import baseline_charts, charts
from taskcluster.views import mapped, shown

POINTS = alt.NamedData("points")  # which the page feeds
WORDS = 110  # pixels of positions beside a panel


@lru_cache(maxsize=4)
def live_charts(metrics: tuple[Metric, ...]) -> dict[str, Any]:
    """The charts for these metrics."""
    known = {metric.key: metric for metric in metrics}
    curves, once = shown(known, "curves", by_layer=True), shown(known, "curves", by_layer=False)
    entries = []
    for metric in curves:
        by_condition = charts.layer_by_condition(POINTS, metric).properties(title=metric.title)
        by_layer = charts.against_step(POINTS, metric).properties(title=metric.title)
        entries += [entry(by_condition, "across", [metric], chosen=metric.key, one_layer=True)]
        entries += [entry(by_layer, "each", [metric], chosen=metric.key)]
    if once:
        panels = {metric.key: metric.key for metric in once}
        entries += [entry(charts.learning(POINTS, once), "across", once, panels)]
    for group in charts.alike([metric for metric in shown(known, "layers", by_layer=True) if metric in curves]):
        panels = {metric.key: metric.where for metric in group}
        entries += [entry(charts.by_layer_at_the_end(POINTS, group), "across", group, panels, last=True)]
    if tiled := mapped(known, "map"):
        panels, needs = charts.map_panels(tiled), shown(known, "map")
        entries += [entry(charts.by_layer_and_step(POINTS, tiled), "each", tiled, panels, needs, height=130)]
    if tiled := mapped(known, "path"):
        panels, needs, chart = (
            charts.path_panels(tiled),
            shown(known, "path"),
            charts.by_layer_and_position(POINTS, tiled),
        )
        entries += [entry(chart, "each", tiled, panels, needs, last=True, height=130, words=WORDS)]
    for kind in charts.BESIDE.values():
        if groups := baseline_charts.groups(known, kind):
            panels = baseline_charts.labels(groups, kind)["where"]
            needs, chart = [m for group in groups for m in group[1:]], baseline_charts.by_layer(POINTS, groups, kind)
            entries += [entry(chart, "each", [m for g in groups for m in g], panels, needs, last=True, legend=130)]
    return {
        "charts": entries,
        "metrics": [{"key": metric.key, "short": metric.short, "title": metric.title} for metric in curves],
        "tsne": charts.tsne(POINTS, n_tasks=1, title="").to_dict(),
        "themes": {"light": charts.theme(), "dark": charts.theme(dark=True)},
    }


def entry(
    chart: charts.Chart,
    part: str,
    metrics: Sequence[Metric],
    panels: Mapping[str, str] | None = None,
    needs: Sequence[Metric] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """A chart with what the page must know of it.

    part: "across" for one of all conditions, "each" for one a condition. panels: {metric: panel}; None for a panel for
    each split. needs: a condition without any of them has no such chart; by default the metrics. Options: chosen, the
    metric for which the chart is shown; one_layer, whether it shows the chosen layer; last, whether only the last step;
    height, of the tiles of a map; words, legend: pixels beside the panels.
    """
    keys = [metric.key for metric in metrics if needs is None] + [metric.key for metric in needs or ()]
    ranges = [{"key": metric.key, "low": metric.low, "high": metric.high} for metric in metrics]
    return {"part": part, "metrics": ranges, "panels": panels, "needs": keys, "spec": chart.to_dict(), **options}
