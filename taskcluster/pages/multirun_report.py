"""The report of a multirun: a page, a summary, figures, and tables of every number and interval."""

from collections.abc import Sequence
from pathlib import Path

import polars

from taskcluster.pages import charts, rendering
from taskcluster.pages.comparison_charts import instrument_charts
from taskcluster.pages.marks import Chart
from taskcluster.pages.sweep_chart import sweep_chart
from taskcluster.results import frame
from taskcluster.results.answers import asked, compared
from taskcluster.results.conditions import short_names
from taskcluster.results.findings import Findings
from taskcluster.results.points import Point
from taskcluster.results.tables import tables
from taskcluster.runs.atomic_files import filling
from taskcluster.runs.records import text

FORMATS = ("png", "svg", "pdf")
OPEN = ("The paper's claims", "Differences between conditions", "Differences in emergence")  # not folded if they are
MOST_ROWS = 12  # or fewer
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
    made = tables(shown, points)
    content = {
        "title": title,
        "asked": _asked(findings),
        "answer": compared(findings),
        "n_runs": len(findings.runs),
        "names": findings.names,
        "n_shown": len(shown.names),
        "gaps": findings.gaps[:MOST_GAPS],
        "n_more_gaps": max(len(findings.gaps) - MOST_GAPS, 0),
        "tables": made,
        "open": [table.title for table in made if table.title in OPEN and len(table.rows) <= MOST_ROWS],
        "charts": rendering.draw(_charts(shown, points), folder, FORMATS, short_names(shown.names)),
        "formats": FORMATS,
        "n_numbers": len(numbers),
    }
    for name, template in (("report.md", "report.md"), ("index.html", "report.html")):
        (folder / name).write_bytes(rendering.render(template, **content).encode(errors="replace"))


def _charts(shown: Findings, points: Sequence[Point]) -> dict[str, Chart]:
    """All charts of a report, the one that answers first. Conditions have their short names."""
    short = dict(zip(shown.names, short_names(shown.names), strict=True))
    points = [point | {"condition": short[point["condition"]]} for point in points]
    swept = [(short[name], condition) for name, condition in shown.named()]
    agreements = {short[name]: pairs for name, pairs in shown.agreements().items()}
    wanted = charts.condition_charts(points, shown.catalogue)
    first = dict([*wanted.items()][:1])
    wanted = first | sweep_chart(points, swept, shown.catalogue) | wanted
    return wanted | instrument_charts(points, agreements, shown.catalogue)


def _asked(findings: Findings) -> list[str]:
    """What all runs were asked, of the first, and the keys in which conditions differ."""
    first = findings.runs[0]
    swept = dict.fromkeys(key for condition in findings.conditions for key in condition.settings)
    differ = f"{len(findings.conditions)} conditions differ in {', '.join(swept)}." if swept else ""
    return [asked(first.config, first.last["step"]), *([differ] if differ else [])]
