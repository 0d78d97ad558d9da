"""The tables of results in README.md and docs/, from kept CSV files.

    python docs/tables.py          render the tables of all pages again, from docs/results/*.csv
    python docs/tables.py RUNS     first write the files and figures of the sweeps in RUNS: RUNS/causal, RUNS/facts, ...

in:  docs/results/NAME.csv: the columns, then the rows, cells as the page prints them
out: in a page, below every line <!-- results: NAME -->, the table; docs/images, the figures of these sweeps

<!-- results: NAME, rows 1 3 --> shows only these rows, counted from 1 below the columns. <!-- numbers: NAME NAME -->
shows no table: it names files whose numbers the text quotes. A sweep that is not in RUNS, or not all of whose runs are
finished, keeps its files.
"""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sweeps import bottleneck, causal, causes, controls, depths, figures, pretrained, regexes, shots, single, varied

from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings
from taskcluster.validation import UserError

ROOT = Path(__file__).parents[1]
FOLDER, IMAGES = ROOT / "docs" / "results", ROOT / "docs" / "images"
MARKED = re.compile(r"^(<!-- results: (\w+)(?:, rows ([\d ]+))? -->\n)(?:\|.*\n)*", re.MULTILINE)


class Sweep(NamedTuple):
    """n_runs: how many finished runs there must be; tables: by the name of their file."""

    n_runs: int
    tables: Callable[[Findings], Mapping[str, Table]]


SWEEPS = {
    "reproduce": Sweep(5, single.default_run),
    "reproduce_one_thread": Sweep(1, single.one_thread),
    "architectures": Sweep(2, single.architectures),
    "layers": Sweep(1, single.deeper),
    "seeds_layers": Sweep(25, lambda found: depths.tables(found) | controls.tables(found)),
    "causal": Sweep(20, causal.tables),
    "regexes": Sweep(16, regexes.tables),
    "n_instructions": Sweep(15, varied.instructions),
    "facts": Sweep(3, varied.facts),
    "countries": Sweep(1, pretrained.countries),
    "few_shot": Sweep(2, pretrained.few_shot),
    "vectors_seeds": Sweep(3, pretrained.vectors_seeds),
    "shots": Sweep(25, shots.tables),
    "bottleneck": Sweep(62, bottleneck.bottleneck),
    "sources": Sweep(60, causes.sources),
    "pull": Sweep(65, causes.pull),
    "separator_first": Sweep(15, causes.separator_first),
    "own_weights": Sweep(15, causes.own_weights),
    "tightness": Sweep(10, causes.tightness),
    "finetune": Sweep(5, causes.finetune),
    "words": Sweep(10, bottleneck.words),
    "breadth": Sweep(45, bottleneck.breadth),
    "breadth_pull": Sweep(30, causes.breadth_pull),
}


def pages() -> Iterator[Path]:
    """The pages that may have tables of results."""
    return (page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


def write(runs: Path) -> Iterator[str]:
    """Write the files of every sweep in `runs` that is whole, and say in a sentence each which are not."""
    for name in [name for name in SWEEPS if (runs / name).is_dir()]:
        try:
            found = Findings(runs / name)
        except UserError as error:
            yield str(error)
            continue
        if len(found.runs) != SWEEPS[name].n_runs:
            yield f"{runs / name} has {len(found.runs)} finished runs of {SWEEPS[name].n_runs}; run its command again"
            continue
        for file, table in SWEEPS[name].tables(found).items():
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([table.columns, *table.rows])
            (FOLDER / f"{file}.csv").write_text(text.getvalue())
        figures.draw(name, found, runs, IMAGES)


def read(name: str) -> list[list[str]]:
    """The columns and rows of a file. Raises UserError where it is missing."""
    if not (FOLDER / f"{name}.csv").is_file():
        raise UserError(f"docs/results/{name}.csv, which a page names, is missing; write it from the runs of its sweep")
    with (FOLDER / f"{name}.csv").open(newline="") as lines:
        return list(csv.reader(lines))


def rendered(page: str) -> str:
    """The text of a page with its tables as the files have them."""

    def table(found: re.Match[str]) -> str:
        columns, *rows = [[cell.translate(ESCAPED) for cell in row] for row in read(found[2])]
        rows = [rows[int(row) - 1] for row in found[3].split()] if found[3] else rows
        lines = ["|".join(f" {cell} " if cell else " " for cell in row) for row in (columns, *rows)]
        lines.insert(1, "|".join(["---"] * len(columns)))
        return found[1] + "".join(f"|{line}|\n" for line in lines)

    return MARKED.sub(table, page)


ESCAPED = str.maketrans({"|": "&#124;", "<": "&lt;"})


def main(arguments: list[str]) -> None:
    """Write files and pages. Raises UserError afterwards if a sweep is incomplete."""
    missing = [*write(Path(arguments[0]))] if arguments else []
    for page in pages():
        text = page.read_text()
        if (new := rendered(text)) != text:
            page.write_text(new)
            print(page.relative_to(ROOT))
    if missing:
        raise UserError("\n".join(missing))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"tables.py: {error}", file=sys.stderr)
        sys.exit(2)
