"""The journals of a run: parse their keys, append lines, read them back.

metrics.jsonl   {"step": 120, "val/accuracy": 0.9, "ari/val/layer_3": 0.7, "cka/val": [[1.0, ...], ...], ...,
                "time": ..., "elapsed": ..., ...}
training.jsonl  {"step": 10, "train/batch_loss": 4.2, "train/learning_rate": 0.001, "elapsed": ...}
partial.jsonl   {"step": 0, "measure": "val/clustering", "numbers": {...}}, until the journal has the step
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from taskcluster.metrics import Metric
from taskcluster.runs.records import contents
from taskcluster.validation import UserError

Row = dict[str, Any]
Numbers = Mapping[str, float]

TIMES = ("time", "elapsed", "measuring")  # the keys of a line that differ between two runs of one configuration

SPLITS = {"train": "train", "val": "validation"}  # in keys, and in words


class Key(NamedTuple):
    """metric: "ari", "accuracy", ...; split: train or val; layer: None for a metric without layers."""

    metric: str
    split: str
    layer: int | None


@lru_cache(maxsize=4096)
def parse(key: str) -> Key | None:
    """The metric, split and layer of "ari/val/layer_3" or "val/accuracy"; None for a key that is not a metric's."""
    if by_layer := re.fullmatch(r"([^/]+)/(train|val)/layer_([0-9]{1,4})", key):
        return Key(by_layer[1], by_layer[2], int(by_layer[3]))
    once = re.fullmatch(r"(train|val)/([^/]+)", key)
    return Key(once[2], once[1], None) if once else None


def number(row: Mapping[str, Any], key: str) -> float:
    """A value of a line, NaN where the journal has null or no such key."""
    return math.nan if row.get(key) is None else float(row[key])


def fixed(value: float | None, digits: int = 3) -> str:
    """A number for a reader, "-" for one that is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:z.{digits}f}"


def layers_of(row: Mapping[str, Any], metric: str) -> list[float]:
    """Values of "<metric>/layer_0", "<metric>/layer_1", ... in a line."""
    values: list[float] = []
    while (key := f"{metric}/layer_{len(values)}") in row:
        values.append(number(row, key))
    return values


def values_of(row: Mapping[str, Any], metric: Metric, split: str = "val") -> list[float]:
    """A metric in a line: its values by layer, [] if there are none; or its one value."""
    stem = metric.stem(split)
    return layers_of(row, stem) if metric.by_layer else [number(row, stem)]


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add a line and wait until it is on the disk. Numbers that are not finite become null."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({key: finite(value) for key, value in row.items()}) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def read(file: Path) -> list[Row]:
    """The lines before the first torn or damaged one; [] if the file does not exist.

    Raises UserError for a file that cannot be read, and for one that two processes wrote.
    """
    try:
        return complete(contents(file) or b"")[0]
    except WrittenTwice as error:
        raise UserError(
            f"{file} is damaged ({error}); restore a copy of it, or move {file.parent} away and rerun the command"
        ) from None


class WrittenTwice(ValueError):
    """A line's step is not above the previous line's, so lines of two processes cannot be told apart."""


def complete(content: bytes, last: int = -1) -> tuple[list[Row], int, str]:
    """The lines before the first torn or damaged one, their length in bytes, and the name of the damaged one, ""
    if none is.

    last: the step of the line before the content, -1 for none. Raises WrittenTwice.
    """
    rows: list[Row] = []
    length = 0
    for line in content.split(b"\n")[:-1]:  # the text after the last newline is empty or torn
        try:
            row = orjson.loads(line)
            step = int(row["step"])
        except (ValueError, TypeError, KeyError):
            return rows, length, f"line {len(rows) + 1}"
        if step <= last:
            raise WrittenTwice(f"line {len(rows) + 1} has step {step} after step {last}: two processes wrote this file")
        rows.append(row)
        last = step
        length += len(line) + 1
    return rows, length, ""


def finite(value: Any) -> Any:
    """The value, or None in place of a float that JSON cannot hold, also in lists."""
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """The time of a line, in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class PartialRow:
    """Called with the name of a measure and what computes its numbers: computes them once for a folder and a step, so
    that a killed run resumes with the next measure.

    Stored numbers are bit-equal; numbers that are not finite come back as NaN.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._file, self._step, self._known = folder / "partial.jsonl", step, dict[str, Numbers]()
        for line in (contents(self._file) or b"").split(b"\n"):
            with suppress(orjson.JSONDecodeError):  # the last line may be torn
                row = orjson.loads(line)
                if row["step"] == step:
                    self._known[row["measure"]] = {k: math.nan if v is None else v for k, v in row["numbers"].items()}

    def __call__(self, measure: str, compute: Callable[[], Numbers]) -> Numbers:
        if measure not in self._known:
            self._known[measure] = numbers = compute()
            kept = {key: finite(value) for key, value in numbers.items()}
            append(self._file, {"step": self._step, "measure": measure, "numbers": kept})
        return self._known[measure]

    def clear(self) -> None:
        """Remove the file, as the journal has the step."""
        self._file.unlink(missing_ok=True)
