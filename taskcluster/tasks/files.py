"""Pairs of inputs and outputs in files, one file a task.

in:  a .json file, a list of {"input": ..., "output": ...} as the function-vector data sets have it; .jsonl, such an
     object a line; .csv or .tsv, two columns with or without a first line `input,output`
out: (x, y) in the order of the file, as texts without spaces around them
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

COLUMNS = ["input", "output"]
BETWEEN = re.compile(r"[\s,]*")  # the entries of a list


class Unusable(ValueError):
    """A line of a file, and what is wrong with it."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


class Entry(NamedTuple):
    line: int
    x: object
    y: object


def read_pairs(file: Path) -> list[tuple[str, str]]:
    """Raises ValueError that names the file and the line for what is not a pair of texts."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        return [(_text(entry.line, entry.x), _text(entry.line, entry.y)) for entry in READERS[file.suffix](text)]
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not UTF-8; save it as UTF-8") from None
    except Unusable as error:
        raise ValueError(f"{file.name}, {error}") from None


def _text(line: int, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unusable(line, f"{value!r} is not a text; write input and output as texts")
    if not str(value).strip():
        raise Unusable(line, "input or output is empty; fill it in, or delete the line")
    return str(value).strip()


def _json(text: str) -> Iterator[Entry]:
    if not isinstance(_parsed(text, 1), list):
        raise Unusable(1, 'is not a list; write [{"input": ..., "output": ...}, ...]')
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    while text[place := BETWEEN.match(text, place).end()] != "]":  # type: ignore[union-attr]  # it matches nothing too
        line = text.count("\n", 0, place) + 1
        value, place = decoder.raw_decode(text, place)
        yield _entry(value, line)


def _json_lines(text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _entry(_parsed(line, number), number)


def _parsed(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Unusable(line + error.lineno - 1, f"is not JSON ({error.msg}); correct it") from None


def _entry(value: object, line: int) -> Entry:
    if not isinstance(value, dict) or not {*COLUMNS} <= value.keys():
        raise Unusable(line, f"{value!r} has no input and output; write {{'input': ..., 'output': ...}}")
    return Entry(line, value["input"], value["output"])


def _table(**dialect: Any) -> Callable[[str], Iterator[Entry]]:
    def read(text: str) -> Iterator[Entry]:
        lines = csv.reader(text.splitlines(keepends=True), strict=True, **dialect)
        try:
            for number, cells in enumerate(lines):
                if not cells or (number == 0 and [cell.strip().lower() for cell in cells] == COLUMNS):
                    continue
                if len(cells) != 2:
                    raise Unusable(lines.line_num, f"has {len(cells)} columns instead of input and output; correct it")
                yield Entry(lines.line_num, *cells)
        except csv.Error as error:
            raise Unusable(lines.line_num, f"is not readable ({error}); correct it") from None

    return read


READERS: MappingProxyType[str, Callable[[str], Iterator[Entry]]] = MappingProxyType(
    {
        ".json": _json,
        ".jsonl": _json_lines,
        ".csv": _table(),
        ".tsv": _table(delimiter="\t", quoting=csv.QUOTE_NONE),
    }
)
