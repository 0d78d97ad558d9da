"""taskcluster-report: a multirun's folder into a page, a summary, figures, and the table of every number."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taskcluster import terminal
from taskcluster.arguments import Parser, say
from taskcluster.records import text
from taskcluster.validation import ConfigError

if TYPE_CHECKING:
    from taskcluster.findings import Findings

FORMATS = ("png", "svg", "pdf")


def main() -> None:
    terminal.guard()
    parser = Parser(
        prog="taskcluster-report",
        description="Write FOLDER/report: index.html (a page that needs no network), report.md, figures as PNG, SVG "
        "and PDF, and every number in table.csv and table.parquet.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a multirun, as in multirun/seeds, or any folder of runs"
    )
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="also save a workspace with all curves in the W&B project that the runs are in",
    )
    arguments = parser.parse_args()
    try:
        print(f"The report is {text(str(write(arguments.folder)))}", flush=True)
        if arguments.wandb:
            print(f"The workspace is {save_workspace(arguments.folder)}")
    except ConfigError as error:
        say("taskcluster-report", str(error))
        sys.exit(2)


def write(root: Path) -> Path:
    """Write the report of the finished runs at or below `root`; gives the page.

    Raises ConfigError where there is no finished run, or the folder cannot be written to.
    """
    from taskcluster.findings import Findings

    found, folder = Findings(root), root / "report"
    try:
        folder.mkdir(exist_ok=True)
        return _write(found, text(root.resolve().name), folder)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: {error.strerror or error}; move it away, or make {folder} a folder that can "
            "be written to"
        ) from error


def _write(found: "Findings", title: str, folder: Path) -> Path:
    import polars

    from taskcluster import pages, plots

    tables, table = found.tables(), polars.DataFrame(found.tidy(), infer_schema_length=None)
    table.write_csv(folder / "table.csv")
    table.write_parquet(folder / "table.parquet")
    charts = pages.draw(plots.of_conditions(found.points()), folder, FORMATS)
    content = {
        "title": title,
        "n_runs": len(found.runs),
        "names": found.names,
        "gaps": found.gaps,
        "tables": tables,
        "charts": charts,
        "formats": FORMATS,
        "n_numbers": len(table),
    }
    for name in ("report.md", "index.html"):
        template = "report.md" if name.endswith("md") else "report.html"
        (folder / name).write_bytes(pages.render(template, **content).encode(errors="replace"))
    return folder / "index.html"


def save_workspace(root: Path) -> str:
    """A saved view of the W&B project of the finished runs at or below `root`, named after it; gives its address.

    Raises ConfigError where no run was mirrored there, or W&B cannot be reached.
    """
    from taskcluster.findings import Findings
    from taskcluster.workspace import create_workspace

    runs = Findings(root).runs
    loggers = (run.config.get("logger", {}) for run in runs)
    logger = next((logger for logger in loggers if isinstance(logger.get("project"), str)), None)
    if logger is None:
        raise ConfigError(f"{root} holds no run with logger=wandb; a workspace would be empty")
    n_layers = max(len(run.ari_keys("ari")) for run in runs)
    return create_workspace(logger.get("entity"), logger["project"], root.resolve().name, n_layers)


if __name__ == "__main__":
    main()
