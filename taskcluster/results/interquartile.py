"""Interquartile means over many runs, as a table. Points in, Tables out."""

from collections.abc import Sequence

from taskcluster.results.aggregate import Point
from taskcluster.results.bootstrap import MANY, labels_of
from taskcluster.results.cells import Table, as_text
from taskcluster.results.findings import Findings
from taskcluster.results.statistics import Interval
from taskcluster.runs.journal import number
from taskcluster.views import shown

IQM = ("iqm", "iqm_lower", "iqm_upper")

NOTE = f"""Validation, last step; in the last layer where a metric has several. The interquartile mean leaves out the
lowest and the highest quarter of the runs, so that a few that failed do not move it (Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021). Its interval [95 %] is of the
percentile bootstrap of {MANY} runs or more, drawn within task sets where several runs share each (strata)."""


def tables(found: Findings, points: Sequence[Point]) -> list[Table]:
    """Of the conditions with MANY runs or more; [] without any."""
    there = {(p["condition"], p["metric"], p["layer"]): p for p in points if "iqm" in p and p["split"] == "val"}
    rows = []
    for name, condition in found.named():
        strata = len({*labels_of([run.task_set for run in condition.runs], len(condition.runs)).tolist()})
        for metric in shown(found.catalogue, "tables"):
            layers = max(len(run.keys(metric)) for run in condition.runs)
            point = there.get((name, metric.key, layers - 1 if metric.by_layer else None))
            if point and point["iqm"] is not None:
                mean, iqm = (_interval(point, *keys) for keys in (("mean", "lower", "upper"), IQM))
                rows.append([name, metric.title, as_text(iqm), as_text(mean), str(point["n"]), str(strata)])
    columns = ["condition", "metric", "interquartile mean", "mean", "runs", "strata"]
    return [Table("Interquartile means", columns, rows, NOTE)] if rows else []


def _interval(point: Point, mean: str, lower: str, upper: str) -> Interval:
    return Interval(point["n"], *(number(point, key) for key in (mean, "sd", lower, upper)))
