"""The report of a multirun: a page, a summary, figures, and tables of every number and interval."""

from pathlib import Path

import polars

from taskcluster.pages import charts, instruments, rendering, sweeps
from taskcluster.results.aggregate import FOR_CHARTS, Point
from taskcluster.results.columns import Columns
from taskcluster.results.findings import Findings
from taskcluster.results.tables import tables
from taskcluster.runs.atomic_files import filling
from taskcluster.runs.records import text

FORMATS = ("png", "svg", "pdf")
MOST_GAPS = 100  # sentences about what is missing


def write(root: Path) -> Path:
    """Write the report of the finished runs at or below `root`; gives the page.

    Raises UserError where there is no finished run, or the folder cannot be written to.
    """
    found, folder = Findings(root), root / "report"
    with filling(folder) as partial:
        _write(found, text(root.resolve().name), partial)
    return folder / "index.html"


def _write(found: Findings, title: str, folder: Path) -> None:
    shown = found.to_read()
    points: list[Point] = []
    columns = Columns(found)
    intervals = []
    names = {*shown.names}
    for condition, (name, of_condition) in zip(found.conditions, found.points(), strict=True):
        numbers = [{key: point[key] for key in point if key not in FOR_CHARTS} for point in of_condition]
        intervals.append(columns.intervals(name, condition.runs[0], numbers))
        points += of_condition if name in names else []
    written = {"table": columns.table(), "intervals": polars.concat(intervals)}
    for name, table in written.items():
        table.write_csv(folder / f"{name}.csv")
        table.write_parquet(folder / f"{name}.parquet")
    agreements = shown.agreements()
    wanted = sweeps.of_conditions(points, [*shown.named()], found.catalogue)
    wanted |= charts.of_conditions(points, found.catalogue)
    wanted |= instruments.of_conditions(points, agreements, found.catalogue)
    drawn = rendering.draw(wanted, folder, FORMATS)
    content = {
        "title": title,
        "n_runs": len(found.runs),
        "names": found.names,
        "n_shown": len(shown.names),
        "gaps": found.gaps[:MOST_GAPS],
        "n_more_gaps": max(len(found.gaps) - MOST_GAPS, 0),
        "tables": tables(shown, points),
        "charts": drawn,
        "formats": FORMATS,
        "n_numbers": len(written["table"]),
    }
    for name in ("report.md", "index.html"):
        template = "report.md" if name.endswith("md") else "report.html"
        (folder / name).write_bytes(rendering.render(template, **content).encode(errors="replace"))
