"""Pairs in a table, .csv or .tsv, quoted as the module csv and spreadsheets do.

in:  the text; the names of its two columns, or None for input and output, which need not be named in the first line
out: an Entry for each line, in order, without the header
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from taskcluster.tasks.headers import looks_like_header
from taskcluster.tasks.lines import COLUMNS, Entry, Unusable, shown


class Row(NamedTuple):
    """line: where it begins; a quoted cell may hold several."""

    line: int
    cells: list[str]


def read_table(text: str, columns: Sequence[str] | None, task: str, delimiter: str) -> Iterator[Entry]:
    """Raises Unusable for a line without two cells, and for a first line that seems to be a header nobody named."""
    rows = list(_rows(text, delimiter))
    if not rows:
        return
    named = _named(rows, columns, task)
    x, y = named or (0, 1)
    width = len(rows[0].cells)
    for line, cells in rows[named is not None :]:
        if len(cells) != width:
            raise Unusable(line, f"has {_columns(len(cells))} ({shown(cells)}), not {width}; correct it")
        yield Entry(line, cells[x], cells[y])


def _rows(text: str, delimiter: str) -> Iterator[Row]:
    """Those that are not blank."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    while True:
        line = lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unusable(line, f"is not readable ({error}); correct its quotes") from None
        if len(cells) > 1 or any(cell.strip() for cell in cells):
            yield Row(line, cells)


def _named(rows: Sequence[Row], columns: Sequence[str] | None, task: str) -> tuple[int, int] | None:
    """Where the columns of x and of y are; None where the first line is a pair."""
    line, first = rows[0]
    names = [_folded(cell) for cell in first]
    wanted = [_folded(name) for name in columns or COLUMNS]
    if all(name in names for name in wanted):
        for name in wanted:
            if names.count(name) > 1:
                raise Unusable(line, f"names the column {name!r} {names.count(name)} times; keep one")
        return names.index(wanted[0]), names.index(wanted[1])
    if columns:
        raise Unusable(
            line,
            f"{shown(first)} does not name columns={[*columns]}; correct columns, or put a line that names the two "
            "in front",
        )
    if len(first) != 2:
        raise Unusable(
            line,
            f"has {_columns(len(first))} ({shown(first)}), not an input and an output; correct it, or, if it is a "
            "header, name two of its columns, as in task.columns=[word,translation]",
        )
    if looks_like_header(first, [row.cells for row in rows[1:] if len(row.cells) == 2], task):
        raise Unusable(
            line,
            f"{shown(first)} looks like a header; name its columns, as in task.columns=[{','.join(first)}], or, if "
            "it is a pair, put a line with input and output in front",
        )
    return None


def _columns(number: int) -> str:
    return f"{number} column{'s' * (number != 1)}"


def _folded(name: str) -> str:
    return name.strip().casefold()
