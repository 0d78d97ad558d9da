"""taskcluster-report: write a page, a summary, figures, and a table of every number from a multirun's folder."""

from pathlib import Path

from taskcluster.operations.command_line.arguments import Parser, refusing
from taskcluster.operations.live.speaking import speaking
from taskcluster.operations.processes import environment, streams
from taskcluster.runs.records import text
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
    parser.add_argument(
        "--figure",
        metavar="NAME",
        help="write one chart of the report, such as ari_by_layer, to FOLDER/figures instead of the report",
    )
    parser.add_argument(
        "--width", default="3.3in", help="width of that figure, such as 3.3in, 84mm or 240pt (default: 3.3in)"
    )
    parser.add_argument(
        "--layer", default="last", type=_layer, help="layer shown in a chart over steps: last (default) or a number"
    )
    arguments = parser.parse_args()
    with environment.large_imports():
        from taskcluster.pages import multirun_report  # imported here, so that --help is quick

    with refusing(parser.prog):
        with speaking(streams.console()), doing("writing the report"):
            if arguments.figure:
                files = multirun_report.figure(arguments.folder, arguments.figure, arguments.width, arguments.layer)
                said = f"The figure is {' and '.join(text(str(file)) for file in files)}"
            else:
                said = f"The report is {text(str(multirun_report.write(arguments.folder)))}"
        print(said, flush=True)


def _layer(value: str) -> int | str:
    return int(value) if value.isdigit() else value


if __name__ == "__main__":
    main()
