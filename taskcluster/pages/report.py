"""The report of a multirun: a page, a summary, figures, and tables of every number and interval."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars

from taskcluster.pages import charts, instruments, rendering, sweeps
from taskcluster.results.aggregate import FOR_CHARTS, Point
from taskcluster.results.findings import Findings
from taskcluster.results.tables import tables
from taskcluster.runs.records import text
from taskcluster.validation import UserError

FORMATS = ("png", "svg", "pdf")
MOST_GAPS = 100  # sentences about what is missing


def write(root: Path) -> Path:
    """Write the report of the finished runs at or below `root`; gives the page.

    Raises UserError where there is no finished run, or the folder cannot be written to.
    """
    found, folder = Findings(root), root / "report"
    try:
        folder.mkdir(exist_ok=True)
        return _write(found, text(root.resolve().name), folder)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: {error.strerror or error}; move it away, or make {folder} a folder that can "
            "be written to"
        ) from error


def _write(found: Findings, title: str, folder: Path) -> Path:
    shown = found.to_read()
    points: list[Point] = []
    intervals = []
    names = {*shown.names}
    for name, of_condition in found.points():
        intervals.append(_frame([{key: p[key] for key in p if key not in FOR_CHARTS} for p in of_condition]))
        points += of_condition if name in names else []
    written = {"table": _together(map(_frame, found.tidy())), "intervals": _together(intervals)}
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
    return folder / "index.html"


def _frame(rows: list[dict[str, Any]]) -> polars.DataFrame:
    return polars.DataFrame(rows, infer_schema_length=None)


def _together(frames: Iterable[polars.DataFrame]) -> polars.DataFrame:
    """One below the other. Of a condition at a time, as dictionaries take ten times the room of columns."""
    return polars.concat(frames, how="diagonal_relaxed")
