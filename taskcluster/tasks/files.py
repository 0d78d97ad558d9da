"""Pairs of inputs and outputs in files, one file a task.

in:  a .json file, a list of {"input": ..., "output": ...} as the function-vector data sets have it; .jsonl, such an
     object a line; .csv or .tsv, two columns with or without a first line `input,output`; or any of them with other
     names of the two columns
out: (x, y) in the order of the file, as texts without spaces around them
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from taskcluster.tasks.lines import COLUMNS, LINE_END, Entry, Unusable, shown
from taskcluster.tasks.tables import read_table

Columns = Sequence[str] | None
SPACE = re.compile(r"[ \t\r\n]*")
MAX_DIGITS = 4_300  # what Python converts


def read_pairs(file: Path, columns: Columns = None) -> list[tuple[str, str]]:
    """columns: the names of x and of y, by default input and output, which a table need not name.

    Raises ValueError that names the file and the line for what is not a pair of texts.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        entries = READERS[file.suffix.lower()](text, columns, file.stem)
        return [(_text(entry.line, entry.x), _text(entry.line, entry.y)) for entry in entries]
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read ({error.strerror}); correct or remove it") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not UTF-8; save it as UTF-8") from None
    except Unusable as error:
        raise ValueError(f"{file.name}, {error}") from None


def _text(line: int, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unusable(line, f"{shown(value)} is not a text; write input and output as texts")
    text = str(value).strip()
    if not text:
        raise Unusable(line, "input or output is empty; fill it in, or delete the line")
    if re.search("[\0\ud800-\udfff]", text):
        raise Unusable(
            line, f"{shown(text)} holds a NUL or half a character; save the file as UTF-8, or delete the line"
        )
    return text


def _json(text: str, columns: Columns, _task: str) -> Iterator[Entry]:
    place = _after_space(text, 0)
    if text[place : place + 1] != "[":
        raise Unusable(_line(text, place), 'is not a list; write [{"input": ..., "output": ...}, ...]')
    line, counted = 1, 0
    place = _after_space(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + len(LINE_END.findall(text, counted, place)), place
        value, place = _decoded(text, place)
        yield _entry(value, line, columns)
        place = _after_space(text, place)
        if text[place : place + 1] == ",":
            place = _after_space(text, place + 1)
            if text[place : place + 1] != "]":
                continue
        elif text[place : place + 1] == "]":
            break
        raise Unusable(_line(text, place), "is not JSON (entries need one comma between them); correct it")
    place = _after_space(text, place + 1)
    if place < len(text):
        raise Unusable(_line(text, place), "has more text after the list; delete it")


def _json_lines(text: str, columns: Columns, _task: str) -> Iterator[Entry]:
    for number, line in enumerate(LINE_END.split(text), 1):
        if line.strip():
            value, end = _decoded(line, _after_space(line, 0), number)
            if line[end:].strip():
                raise Unusable(number, "is not JSON (more than one object); write one on each line")
            yield _entry(value, number, columns)


def _after_space(text: str, place: int) -> int:
    return place + len(SPACE.match(text, place)[0])  # type: ignore[index]  # it matches nothing too


def _line(text: str, place: int, first: int = 1) -> int:
    return first + len(LINE_END.findall(text, 0, place))


def _decoded(text: str, place: int, first: int = 1) -> tuple[Any, int]:
    """The value that begins at a place, and the place after it. first: the number of the text's first line."""
    try:
        return DECODER.raw_decode(text, place)
    except json.JSONDecodeError as error:
        raise Unusable(_line(text, error.pos, first), f"is not JSON ({error.msg}); correct it") from None
    except RecursionError:
        raise Unusable(_line(text, place, first), "is nested too deeply; write input and output as texts") from None
    except ValueError as error:
        raise Unusable(_line(text, place, first), f"has {error}") from None


def _object(items: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in items]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"the key {shown(repeated[0])} {keys.count(repeated[0])} times; keep one")
    return dict(items)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits; write it as a text")
    return int(digits)


def _constant(name: str) -> object:
    raise ValueError(f"{name}, which is not JSON; write it as a text, or delete the line")


DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=str,  # as it is written
    parse_int=_integer,
    parse_constant=_constant,
)


def _entry(value: object, line: int, columns: Columns) -> Entry:
    x, y = columns or COLUMNS
    if not isinstance(value, dict) or not {x, y} <= value.keys():
        raise Unusable(
            line,
            f"{shown(value)} has no {x} and {y}; write {{{x!r}: ..., {y!r}: ...}}, or name its two fields in columns",
        )
    return Entry(line, value[x], value[y])


READERS: MappingProxyType[str, Callable[[str, Columns, str], Iterator[Entry]]] = MappingProxyType(
    {
        ".json": _json,
        ".jsonl": _json_lines,
        ".csv": partial(read_table, delimiter=","),
        ".tsv": partial(read_table, delimiter="\t"),
    }
)
