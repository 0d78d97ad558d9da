"""Tasks from a folder of files with pairs, one file per task, such as the function-vector data sets.

in:  the folder, which tasks and pairs of it, and how tasks are specified to the model. A file is .json, a list of
     {"input": ..., "output": ...}; .jsonl, such an object a line; or .csv or .tsv, two columns with or without a first
     line `input,output`. The two columns may have other names
out: a TaskFamily, a pure function of its arguments and of the files
"""

import csv
import io
import json
import logging
import random
import reprlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from taskcluster.tasks.family import Holdout, TaskFamily
from taskcluster.tasks.paraphrases import wording_of_name
from taskcluster.tasks.prompting import Describe, Prompting, Templates
from taskcluster.validation import Fraction, Seed, did_you_mean, validated

Entries = Iterator[tuple[int, Any]]  # the number of a line or entry, and {name: text}

LOG = logging.getLogger(__name__)

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (".json", ".jsonl", *DELIMITERS)
DECODER = json.JSONDecoder(parse_float=str, parse_int=str)  # numbers keep their spelling
COMMON = """
    input output x y inputs outputs source target src tgt key value id name label word words text term phrase sentence
    meaning definition translation synonym antonym question answer query response prompt completion category class type
    subject object singular plural past_tense verb noun adjective country capital city language currency
    english french german spanish italian portuguese dutch russian chinese japanese en fr de es it
"""
HEADERS = frozenset(COMMON.split())


@validated
def pairs_family(
    path: str | None,
    tasks: Annotated[list[str], Field(min_length=2)] | None,
    n_pairs: PositiveInt | None,
    max_length: PositiveInt | None,
    describe: Describe,
    templates: Templates | None,
    n_instructions: PositiveInt | None,
    n_demonstrations: NonNegativeInt,
    n_sets: PositiveInt,
    n_pool: PositiveInt,
    layout: str,
    holdout: Holdout,
    val_fraction: Fraction,
    seed: Seed,
    shuffle_outputs: bool = False,
    columns: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None,
    disjoint_demonstrations: bool = False,
    shuffle_labels: bool = False,
    order_seed: Seed | None = None,
) -> TaskFamily:
    """A task for each file, named as the file is without its ending.

    Of each, `n_pairs` pairs of at most `max_length` characters in x and in y, the first y of each x. Tasks choose from
    their inputs in one order, so that those with inputs in common keep them in common. With demonstrations, `n_pool`
    further inputs of each task are demonstrated and never queried. `columns` names the columns or fields of x
    and y, by default input and output. An input with several outputs is logged once a file.

    Raises ValueError, naming the argument, or the file and line, for what cannot be used.
    """
    if path is None:
        raise ValueError("path=None: give the folder that holds a file for each task")
    sets = (n_demonstrations, n_sets, n_pool, layout, seed, disjoint_demonstrations, shuffle_labels, order_seed)
    prompting = Prompting(describe, templates, n_instructions, *sets)
    mappings = {file.stem: _mapping(file, max_length, columns) for file in _files(path, tasks)}
    inputs = sorted({x for mapping in mappings.values() for x in mapping})
    random.Random(f"{seed}/pairs").shuffle(inputs)
    shown = {name: _first(mapping, inputs, prompting.n_shown) for name, mapping in mappings.items()}
    pool = {x for mapping in shown.values() for x in mapping}
    to_ask = [x for x in inputs if x not in pool]
    queried = {name: _first(mapping, to_ask, n_pairs) for name, mapping in mappings.items()}
    for name, mapping in queried.items():
        if len(mapping) < (n_pairs or 1):
            raise ValueError(
                f"n_pairs={n_pairs} leaves task {name} with {len(mapping)} pairs to query, of {len(mappings[name])} in "
                f"its file, because n_pool={prompting.n_shown} inputs of each task are demonstrated; lower one of "
                "them, or raise max_length"
            )
    wordings = {name: wording_of_name(name) for name in mappings}
    return prompting.family(queried, shown, wordings, holdout, val_fraction, shuffle_outputs)


def _files(path: str, tasks: list[str] | None) -> list[Path]:
    """The file of every task, in the order of `tasks` or, without, of their names."""
    found = sorted(file for file in Path(path).glob("*") if file.suffix.lower() in ENDINGS)
    files = {file.stem: file for file in found}
    if len(files) < max(2, len(found)):
        raise ValueError(
            f"path={path!r} holds {', '.join(file.name for file in found) or 'no file of a task'}; give a folder with "
            f"two or more files of {', '.join(ENDINGS)}, of different names"
        )
    if unknown := [name for name in tasks or () if name not in files]:
        raise ValueError(f"tasks={unknown[0]!r} is not a file of {path}{did_you_mean(unknown[0], files)}")
    return [files[name] for name in tasks or files]


def _first(mapping: dict[str, str], order: list[str], count: int | None) -> dict[str, str]:
    """The pairs of a task's first `count` inputs in an order, all for None."""
    return {x: mapping[x] for x in [x for x in order if x in mapping][:count]}


def _mapping(file: Path, max_length: int | None, columns: list[str] | None) -> dict[str, str]:
    pairs = [pair for pair in read_pairs(file, columns) if max_length is None or max(map(len, pair)) <= max_length]
    if not pairs:
        raise ValueError(f"path={str(file)!r} has no pairs with max_length={max_length}; add some, or raise it")
    mapping = dict(reversed(pairs))  # the first y of each x
    if ambiguous := [x for x, y in pairs if mapping[x] != y]:
        LOG.warning(
            "%s has several outputs for %d of its inputs, such as %r; the first is used (%r)",
            file.name, len({*ambiguous}), ambiguous[0], mapping[ambiguous[0]],
        )  # fmt: skip
    return mapping


def read_pairs(file: Path, columns: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """(x, y) in the order of the file, as texts without spaces around them.

    columns: the names of x and of y, by default input and output, which a table need not name.
    Raises ValueError that names the file and the line of what is not a pair of texts.
    """
    x, y = columns or ("input", "output")
    try:
        text, ending = file.read_bytes().decode("utf-8-sig"), file.suffix.lower()
        if ending in DELIMITERS:
            entries = _table(text, DELIMITERS[ending], x, y, named=columns is not None)
        else:
            entries = _json_lines(text) if ending == ".jsonl" else enumerate(DECODER.decode(text), 1)
        return [_pair(f"{'entry' if ending == '.json' else 'line'} {k}", entry, x, y) for k, entry in entries]
    except (OSError, ValueError, TypeError, csv.Error, RecursionError) as error:
        raise ValueError(f"path={str(file)!r} cannot be read ({error}); correct it, and save it as UTF-8") from None


def _pair(place: str, entry: Any, x: str, y: str) -> tuple[str, str]:
    if not isinstance(entry, dict) or not {x, y} <= entry.keys():
        raise ValueError(f"{place}: {reprlib.repr(entry)} has no {x} and {y}; name its two fields in task.columns")
    if not all(isinstance(entry[name], str) and entry[name].strip() for name in (x, y)):
        raise ValueError(f"{place}: {x} and {y} must be texts that are not empty: {reprlib.repr(entry)}")
    return entry[x].strip(), entry[y].strip()


def _json_lines(text: str) -> Entries:
    for number, line in enumerate(text.split("\n"), 1):  # str.splitlines cuts at symbols that texts may hold
        if line.strip():
            try:
                entry = DECODER.decode(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: is not JSON ({error.msg})") from None
            yield number, entry


def _table(text: str, delimiter: str, x: str, y: str, named: bool) -> Entries:
    """named: whether the first line must name x and y, which it may do in any case."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: Iterator[tuple[int, list[str]]] = ((reader.line_num, row) for row in reader if "".join(row).strip())
    number, first = next(rows, (1, [x, y]))
    names, wanted = [cell.strip().casefold() for cell in first], [x.strip().casefold(), y.strip().casefold()]
    if not {*wanted} <= {*names}:
        if named or (len(names) == 2 and {*names} <= HEADERS):
            raise ValueError(
                f"line {number}: {reprlib.repr(first)} looks like a header; name two of its columns in task.columns, "
                "or, if it is a pair, put a line with input and output in front"
            )
        names, rows = wanted, chain([(number, first)], rows)
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(
                f"line {number}: has {len(row)} columns ({reprlib.repr(row)}), not {len(names)}; if the first line is "
                "a header, name two of its columns in task.columns"
            )
        yield number, {x: row[names.index(wanted[0])], y: row[names.index(wanted[1])]}
