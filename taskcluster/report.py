"""taskcluster-report: a multirun's folder into a page, a summary, figures, and the table of every number."""

import sys
from pathlib import Path

from taskcluster.operations.command_line.arguments import Parser, say
from taskcluster.operations.live.speaking import speaking
from taskcluster.operations.processes import environment, streams
from taskcluster.runs.records import text
from taskcluster.validation import UserError
from taskcluster.work import doing


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
    arguments = parser.parse_args()
    from taskcluster.pages.multirun_report import write  # only now, so that --help is quick

    try:
        with speaking(streams.console()), doing("writing the report"):
            page = write(arguments.folder)
        print(f"The report is {text(str(page))}", flush=True)
    except UserError as error:
        say("taskcluster-report", str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
