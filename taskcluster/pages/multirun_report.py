"""The report of a multirun: a page, a summary, figures, and tables of every number and interval."""

from pathlib import Path

import polars

from taskcluster.pages import charts, rendering
from taskcluster.pages.comparison_charts import instrument_charts
from taskcluster.pages.matrix_charts import matrix_charts
from taskcluster.pages.sweep_chart import sweep_chart
from taskcluster.results import frame
from taskcluster.results.findings import Findings
from taskcluster.results.points import Point
from taskcluster.results.tables import tables
from taskcluster.runs.atomic_files import filling
from taskcluster.runs.records import text

FORMATS = ("png", "svg", "pdf")
MOST_GAPS = 100  # sentences about what is missing


def write(root: Path) -> Path:
    """Write the report of the finished runs at or below `root`; gives the page.

    Raises UserError where there is no finished run, or the folder cannot be written to.
    """
    findings, folder = Findings(root), root / "report"
    with filling(folder) as partial:
        _fill(findings, text(root.resolve().name), partial)
    return folder / "index.html"


def _fill(findings: Findings, title: str, folder: Path) -> None:
    shown = findings.to_read()
    points: list[Point] = []
    intervals = []
    for name, condition_points in findings.points():
        intervals.append(polars.DataFrame(condition_points, schema=dict(frame.INTERVALS)))
        points += condition_points if name in shown.names else []
    numbers = frame.numbers(findings)
    written = {"table": numbers, "intervals": frame.labelled(findings, polars.concat(intervals), "condition")}
    for name, table in written.items():
        table.write_csv(folder / f"{name}.csv")
        table.write_parquet(folder / f"{name}.parquet")
    wanted = sweep_chart(points, [*shown.named()], findings.catalogue)
    wanted |= charts.condition_charts(points, findings.catalogue)
    wanted |= instrument_charts(points, shown.agreements(), findings.catalogue)
    wanted |= matrix_charts(shown.matrix_points(), findings.catalogue)
    content = {
        "title": title,
        "n_runs": len(findings.runs),
        "names": findings.names,
        "n_shown": len(shown.names),
        "gaps": findings.gaps[:MOST_GAPS],
        "n_more_gaps": max(len(findings.gaps) - MOST_GAPS, 0),
        "tables": tables(shown, points),
        "charts": rendering.draw(wanted, folder, FORMATS),
        "formats": FORMATS,
        "n_numbers": len(numbers),
    }
    for name, template in (("report.md", "report.md"), ("index.html", "report.html")):
        (folder / name).write_bytes(rendering.render(template, **content).encode(errors="replace"))
