"""Pairs of inputs and outputs in a file.

in:  a .json file, a list of {"input": ..., "output": ...} as the function-vector data sets have it; .jsonl, such an
     object a line; .csv or .tsv, two columns with or without a first line `input,output`; or any of them with other
     names of the two columns
out: (x, y) in the order of the file, as texts without spaces around them
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

COLUMNS = ("input", "output")
COMMON = """
    input output x y inputs outputs source target src tgt key value id name label word words text term phrase sentence
    meaning definition translation synonym antonym question answer query response prompt completion category class type
    subject object singular plural past_tense verb noun adjective country capital city language currency
    english french german spanish italian portuguese dutch russian chinese japanese en fr de es it
"""
HEADERS = frozenset(COMMON.split())
Pairs = Iterator[tuple[str, object, object]]  # the place in the file, x and y


def read_pairs(file: Path, columns: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """columns: the names of x and of y, by default input and output, which a table need not name.

    Raises ValueError that names the file and, where there is one, the line for what is not a pair of texts.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return [_texts(*pair) for pair in READERS[file.suffix.lower()](text, columns)]
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read ({error.strerror}); correct or remove it") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not UTF-8; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{file.name} is not JSON: {error}; correct it") from None
    except (ValueError, csv.Error, RecursionError) as error:
        raise ValueError(f"{file.name}, {error}") from None


def _texts(place: str, x: object, y: object) -> tuple[str, str]:
    if not isinstance(x, str) or not isinstance(y, str):
        raise ValueError(f"{place}: {_short((x, y))} are not two texts; write input and output as texts")
    if not x.strip() or not y.strip():
        raise ValueError(f"{place}: input or output is empty; fill it in, or delete the line")
    return x.strip(), y.strip()


def _json(text: str, columns: Sequence[str] | None) -> Pairs:
    entries = DECODER.decode(text)
    if not isinstance(entries, list):
        raise ValueError('line 1: is not a list; write [{"input": ..., "output": ...}, ...]')
    for number, entry in enumerate(entries, 1):
        yield _fields(f"entry {number}", entry, columns)


def _json_lines(text: str, columns: Sequence[str] | None) -> Pairs:
    lines = text.split("\n")  # str.splitlines cuts at ten other symbols, which texts may hold
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entry = DECODER.decode(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: is not JSON ({error.msg}); write one object on each line") from None
            yield _fields(f"line {number}", entry, columns)


def _fields(place: str, entry: object, columns: Sequence[str] | None) -> tuple[str, object, object]:
    x, y = columns or COLUMNS
    if not isinstance(entry, dict) or not {x, y} <= entry.keys():
        raise ValueError(
            f"{place}: {_short(entry)} has no {x} and {y}; write {{{x!r}: ..., {y!r}: ...}}, or name its two fields in "
            "columns"
        )
    return place, entry[x], entry[y]


def _table(text: str, columns: Sequence[str] | None, delimiter: str) -> Pairs:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = ((reader.line_num, row) for row in reader if len(row) > 1 or "".join(row).strip())
    number, first = next(rows, (1, []))
    names, wanted = [_folded(cell) for cell in first], [_folded(name) for name in columns or COLUMNS]
    x, y = 0, 1
    if {*wanted} <= {*names}:
        x, y = map(names.index, wanted)
    elif columns:
        raise ValueError(
            f"line {number}: {_short(first)} does not name columns={[*columns]}; correct columns, or put a line that "
            "names the two in front"
        )
    elif len(first) == 2 and all(name.replace(" ", "_") in HEADERS for name in names):
        raise ValueError(
            f"line {number}: {_short(first)} looks like a header; name its columns, as in task.columns="
            f"[{','.join(first)}], or, if it is a pair, put a line with input and output in front"
        )
    elif first:
        _refuse_width(number, first, 2)
        yield f"line {number}", first[0], first[1]
    for number, row in rows:
        _refuse_width(number, row, len(first))
        yield f"line {number}", row[x], row[y]


def _refuse_width(number: int, row: Sequence[str], width: int) -> None:
    if len(row) != width:
        raise ValueError(
            f"line {number}: has {len(row)} columns ({_short(row)}), not {width}; correct it, or, if the first line is "
            "a header, name two of its columns, as in task.columns=[word,translation]"
        )


def _folded(name: str) -> str:
    return name.strip().casefold()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


DECODER = json.JSONDecoder(parse_float=str, parse_int=str)  # numbers as they are written
READERS: Any = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": partial(_table, delimiter=","),
    ".tsv": partial(_table, delimiter="\t"),
}
