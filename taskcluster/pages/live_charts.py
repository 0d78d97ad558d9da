"""The charts of the live page, without points.

in:  the metrics of all runs
out: {"charts": [`entry`], "metrics": those that can be chosen, "tsne": a specification, "themes": {"light", "dark"}}
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import altair as alt

from taskcluster.metrics import Metric
from taskcluster.pages import charts
from taskcluster.pages.marks import Chart
from taskcluster.pages.matrix_charts import by_two_layers
from taskcluster.views import shown

MAP = 180  # pixels of a map of layers by layers
POINTS = alt.NamedData("points")  # which the page feeds
OPTIONS = {  # pixels: the height of a map, positions and a legend beside a panel
    "map": {"height": 130},
    "path": {"height": 130, "words": 110},
    "baselines": {"legend": 130},
    "nuisance": {"legend": 130},
}


@lru_cache(maxsize=4)
def live_charts(metrics: tuple[Metric, ...]) -> dict[str, Any]:
    """The charts for these metrics."""
    known = {metric.key: metric for metric in metrics}
    curves = shown(known, "curves", by_layer=True)
    times = Counter(metric.short for metric in curves)
    entries = []
    for metric in curves:
        by_condition = charts.layer_by_condition(POINTS, metric).properties(title=metric.title)
        by_layer = charts.against_step(POINTS, metric).properties(title=metric.title)
        entries += [entry(by_condition, "across", [metric], chosen=metric.key, one_layer=True)]
        entries += [entry(by_layer, "each", [metric], chosen=metric.key)]
    layered = [metric for metric in shown(known, "layers", by_layer=True) if metric in curves]
    for name, (draw, drawn, panels, needs, last, across) in charts.drawings(known, layered).items():
        part, options = "across" if across else "each", OPTIONS.get(name, {})
        entries += [entry(draw(POINTS), part, drawn, panels, needs, last=last, **options)]
    for metric in shown(known, "matrix"):
        entries += [entry(by_two_layers(POINTS, metric), "each", [metric], last=True, height=MAP, widest=MAP)]
    return {
        "charts": entries,
        "metrics": [
            {"key": m.key, "short": m.short if times[m.short] == 1 else m.title, "title": m.title} for m in curves
        ],
        "tsne": charts.tsne(POINTS, n_tasks=1, title="").to_dict(),
        "themes": {"light": charts.theme(), "dark": charts.theme(dark=True)},
    }


def entry(
    chart: Chart,
    part: str,
    metrics: Sequence[Metric],
    panels: Mapping[str, str] | None = None,
    needs: Sequence[Metric] = (),
    **options: Any,
) -> dict[str, Any]:
    """A chart with what the page must know of it.

    part: "across" for one of all conditions, "each" for one a condition. panels: {metric: panel}; None for a panel for
    each split. needs: a condition without any of them has no such chart; by default the metrics. Options: chosen, the
    metric for which the chart is shown; one_layer, whether it shows the chosen layer; last, whether only the last step;
    height, of the tiles of a map; widest, of a panel; words, legend: pixels beside the panels.
    """
    keys = [metric.key for metric in needs or metrics]
    ranges = [{"key": metric.key, "low": metric.low, "high": metric.high} for metric in metrics]
    return {"part": part, "metrics": ranges, "panels": panels, "needs": keys, "spec": chart.to_dict(), **options}
