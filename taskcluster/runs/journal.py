"""The lines of a run's journals: how they are written, read, and what their keys mean.

metrics.jsonl   {"step": 120, "val/accuracy": 0.9, "ari/val/layer_3": 0.7, ..., "time": ..., "elapsed": ..., ...}
training.jsonl  {"step": 10, "train/batch_loss": 4.2, "train/learning_rate": 0.001, "elapsed": ...}
"""

import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import orjson

from taskcluster.runs.records import LARGEST, contents
from taskcluster.validation import UserError

Row = dict[str, Any]

TIMES = ("time", "elapsed", "measuring")  # the keys of a line that differ between two runs of one configuration

SPLITS = {"train": "train", "val": "validation"}  # as the keys have them, and in words


class Key(NamedTuple):
    """metric: "ari", "accuracy", ...; split: train or val; layer: None for what has none."""

    metric: str
    split: str
    layer: int | None


@lru_cache(maxsize=4096)
def parse(key: str) -> Key | None:
    """What a key of the journal names: "ari/val/layer_3" or "val/accuracy"; None for a key that is not a metric's.

    Raises ValueError for a layer without a number.
    """
    match key.split("/"):
        case [metric, split, layer] if split in SPLITS:
            if not re.fullmatch(r"layer_[0-9]{1,4}", layer):
                raise ValueError(f"{key} names no layer")
            return Key(metric, split, int(layer.removeprefix("layer_")))
        case [split, metric] if split in SPLITS:
            return Key(metric, split, None)
    return None


def number(row: Mapping[str, Any], key: str) -> float:
    """A value of a line, NaN where the journal has null or no such key."""
    value = row.get(key)
    return math.nan if value is None else float(value)


def fixed(value: float | None, digits: int = 3) -> str:
    """A number for a reader, "-" for one that is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:z.{digits}f}"


def layers_of(row: Mapping[str, Any], metric: str) -> list[float]:
    """Values of "<metric>/layer_0", "<metric>/layer_1", ... in a line."""
    values: list[float] = []
    while (key := f"{metric}/layer_{len(values)}") in row:
        values.append(number(row, key))
    return values


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add a line and wait until it is on the disk. Numbers that are not finite become null."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({key: finite(value) for key, value in row.items()}) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def read(file: Path) -> list[Row]:
    """The lines, up to the first that a crash tore or that is damaged otherwise; [] where there is no file.

    Raises UserError for anything but a readable file, and for one that two processes wrote.
    """
    try:
        return complete(contents(file) or b"")[0]
    except WrittenTwice as error:
        raise UserError(
            f"{file} is damaged ({error}); restore a copy of it, or move {file.parent} away and rerun the command"
        ) from None


class WrittenTwice(ValueError):
    """The step of a line is not above that of the line before it. Nothing says which lines belong together."""


def complete(content: bytes, last: int = -1) -> tuple[list[Row], int, str]:
    """The lines that are whole, up to the first that is not, how many bytes they are, and what is wrong with a line
    that ends and still is not whole, "" where there is none.

    last: the step of the line before the content, -1 for none. Raises WrittenTwice.
    """
    rows: list[Row] = []
    length = 0
    for line in content.split(b"\n")[:-1]:  # what follows the last newline is empty or torn
        try:
            row = _checked(orjson.loads(line))
        except ValueError as error:
            return rows, length, f"line {len(rows) + 1}: {error}"
        if row["step"] <= last:
            again = " again" * any(row["step"] == before["step"] for before in rows)
            where = f"line {len(rows) + 1} has step {row['step']}{again} after step {last}"
            raise WrittenTwice(f"{where}: two processes wrote this file")
        rows.append(row)
        last = row["step"]
        length += len(line) + 1
    return rows, length, ""


def _checked(row: Any) -> Row:
    """A line's content. Raises ValueError for what `append` does not write."""
    step = row.get("step") if isinstance(row, dict) else None
    if type(step) is not int or not 0 <= step < LARGEST:
        raise ValueError("it has no step")
    for key in _numbers(tuple(row)):
        if type(row[key]) not in (float, int, NoneType):
            raise ValueError(f"{key} is not a number")
    return row


@lru_cache(maxsize=64)
def _numbers(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a line whose values are numbers: its metrics and times."""
    for key in keys:
        parse(key)
    return tuple(key for key in keys if "/" in key or key in ("elapsed", "measuring"))


def finite(value: Any) -> Any:
    """The value, or None in place of a float that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """The time of a line, in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
