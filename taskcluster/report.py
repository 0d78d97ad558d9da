"""taskcluster-report: a multirun's folder into a page, a summary, figures, and the table of every number."""

import sys
from pathlib import Path

from taskcluster.operations.command_line.arguments import Parser, say
from taskcluster.operations.processes import environment
from taskcluster.runs.records import text
from taskcluster.validation import UserError


def main() -> None:
    environment.prepare()
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
    from taskcluster.operations.tracking.workspace import save_workspace  # only now, so that --help is quick
    from taskcluster.pages.multirun_report import write

    try:
        print(f"The report is {text(str(write(arguments.folder)))}", flush=True)
        if arguments.wandb:
            print(f"The workspace is {save_workspace(arguments.folder)}")
    except UserError as error:
        say("taskcluster-report", str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
