"""The report of a multirun: a page, a summary, figures, and the table of every number."""

from pathlib import Path

import polars

from taskcluster.pages import charts, rendering
from taskcluster.results.findings import Findings
from taskcluster.results.tables import tables
from taskcluster.runs.records import text
from taskcluster.validation import UserError

FORMATS = ("png", "svg", "pdf")


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
    table = polars.DataFrame(found.tidy(), infer_schema_length=None)
    table.write_csv(folder / "table.csv")
    table.write_parquet(folder / "table.parquet")
    drawn = rendering.draw(charts.of_conditions(found.points(), found.catalogue), folder, FORMATS)
    content = {
        "title": title,
        "n_runs": len(found.runs),
        "names": found.names,
        "gaps": found.gaps,
        "tables": tables(found),
        "charts": drawn,
        "formats": FORMATS,
        "n_numbers": len(table),
    }
    for name in ("report.md", "index.html"):
        template = "report.md" if name.endswith("md") else "report.html"
        (folder / name).write_bytes(rendering.render(template, **content).encode(errors="replace"))
    return folder / "index.html"
