"""The report of a multirun: a page, a summary, figures, and tables of every number and interval."""

import gc
import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from taskcluster.pages import charts, rendering
from taskcluster.pages.comparison_charts import instrument_charts
from taskcluster.pages.marks import Chart
from taskcluster.pages.matrix_charts import matrix_charts
from taskcluster.pages.sweep_chart import sweep_chart
from taskcluster.results import frame
from taskcluster.results.answers import asked, compared
from taskcluster.results.cells import Table
from taskcluster.results.conditions import short_names
from taskcluster.results.findings import Findings
from taskcluster.results.points import Point
from taskcluster.results.tables import tables
from taskcluster.runs.atomic_files import filling
from taskcluster.runs.records import text
from taskcluster.validation import UserError

FORMATS = ("png", "svg", "pdf")
OPEN = ("The paper's claims", "Differences between conditions", "Differences in emergence")  # not folded if they are
MOST_ROWS = 12  # or fewer
POINTS = {"in": 72.0, "cm": 72 / 2.54, "mm": 7.2 / 2.54, "pt": 1.0}  # points per unit
NARROWEST, WIDEST = 1.5 * 72, 20 * 72  # points
MOST_GAPS = 100  # sentences about missing parts


def write(root: Path) -> Path:
    """Write the report of the finished runs at or below `root`; gives the page.

    Raises UserError if no run is finished, or the folder cannot be written to.
    """
    folder = root / "report"
    gc.disable()  # there are few cycles, and to search 10,000 runs for them takes seconds
    try:
        findings = Findings(root)
        with filling(folder) as partial:
            _fill(findings, text(root.resolve().name), partial)
    finally:
        gc.enable()
    return folder / "index.html"


def figure(root: Path, name: str, width: str, layer: int | str = "last") -> list[Path]:
    """Write one chart of the report as PDF and PNG into root/figures, so wide ("3.3in", "84mm"); gives the files.

    Raises UserError if no run is finished, and for an unknown chart, layer or width.
    """
    measure = re.fullmatch(r"([\d.]+)(in|cm|mm|pt)", width)
    points = float(measure[1]) * POINTS[measure[2]] if measure and measure[1].replace(".", "", 1).isdigit() else 0.0
    if not NARROWEST <= points <= WIDEST:
        raise UserError(f"--width {width} is not a width between 1.5in and 20in; give one as in 3.3in, 84mm or 240pt")
    shown = Findings(root).to_read()
    wanted = _charts(shown, [point for _, points_of in shown.points() for point in points_of])
    if name not in wanted:
        raise UserError(f"--figure {name} is not a chart of these runs; choose one of {', '.join(wanted)}")
    file = root / "figures" / f"{name}-{width}"
    file.parent.mkdir(exist_ok=True)
    rendering.for_paper(wanted[name], points, file, short_names(shown.names), layer)
    return [file.with_name(f"{file.name}.{kind}") for kind in ("pdf", "png")]


def _fill(findings: Findings, title: str, folder: Path) -> None:
    shown = findings.to_read()
    points = [point for _, of_condition in shown.points() for point in of_condition]
    numbers = frame.numbers(findings)
    for name, table in {"table": numbers, "intervals": frame.intervals(findings)}.items():
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
        "open": [table.title for table in made if table.title in OPEN and len(table.rows) <= MOST_ROWS],
        "charts": rendering.draw(_charts(shown, points), folder, FORMATS, short_names(shown.names)),
        "formats": FORMATS,
        "n_numbers": len(numbers),
    }
    on_page = [_shortened(table, shown.names) for table in made]  # the summary has the names of table.csv
    for name, template, listed in (("report.md", "report.md", made), ("index.html", "report.html", on_page)):
        page = rendering.render(template, **content, tables=listed)
        (folder / name).write_bytes(page.encode(errors="replace"))


def _shortened(table: Table, names: Sequence[str]) -> Table:
    """The table with the short names of conditions, which may be a part of a column's name."""
    short = dict(zip(names, short_names(names), strict=True))
    columns = [
        reduce(lambda column, name: column.replace(name, short[name]), names, column) for column in table.columns
    ]
    return table._replace(columns=columns, rows=[[short.get(cell, cell) for cell in row] for row in table.rows])


def _charts(shown: Findings, points: Sequence[Point]) -> dict[str, Chart]:
    """All charts of a report, the main one first. Conditions have their short names."""
    short = dict(zip(shown.names, short_names(shown.names), strict=True))
    points = [point | {"condition": short[point["condition"]]} for point in points]
    swept = [(short[name], condition) for name, condition in shown.named()]
    agreements = {short[name]: pairs for name, pairs in shown.agreements().items()}
    wanted = charts.condition_charts(points, shown.catalogue)
    first = dict([*wanted.items()][:1])
    wanted = first | sweep_chart(points, swept, shown.catalogue) | wanted
    matrices = [point | {"condition": short[point["condition"]]} for point in shown.matrix_points()]
    wanted |= instrument_charts(points, agreements, shown.catalogue)
    return wanted | matrix_charts(matrices, shown.catalogue)


def _asked(findings: Findings) -> list[str]:
    """Return the setup of the runs, from the first one, and the keys in which conditions differ."""
    first = findings.runs[0]
    swept = dict.fromkeys(key for condition in findings.conditions for key in condition.settings)
    differ = f"{len(findings.conditions)} conditions differ in {', '.join(swept)}." if swept else ""
    return [asked(first.config, first.last["step"]), *([differ] if differ else [])]
