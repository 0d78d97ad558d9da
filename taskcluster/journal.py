"""The lines of a run's journals: how they are written, read, and what their keys mean.

metrics.jsonl   {"step": 120, "val/accuracy": 0.9, "ari/val/layer_3": 0.7, ..., "time": ..., "elapsed": ..., ...}
training.jsonl  {"step": 10, "train/batch_loss": 4.2, "train/learning_rate": 0.001, "elapsed": ...}
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

Row = dict[str, Any]

TIMES = ("time", "elapsed", "measuring")  # the keys of a line that differ between two runs of one configuration

SPLITS = {"train": "train", "val": "validation"}


class Key(NamedTuple):
    """metric: "ari", "accuracy", ...; split: train or validation; layer: None for what has none."""

    metric: str
    split: str
    layer: int | None


def parse(key: str) -> Key | None:
    """What a key of the journal names: "ari/val/layer_3" or "val/accuracy"; None for one that is no metric."""
    match key.split("/"):
        case [metric, split, layer] if split in SPLITS:
            return Key(metric, SPLITS[split], int(layer.removeprefix("layer_")))
        case [split, metric] if split in SPLITS:
            return Key(metric, SPLITS[split], None)
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
    with file.open("a") as lines:
        lines.write(json.dumps({key: finite(value) for key, value in row.items()}) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def read(file: Path) -> list[Row]:
    """The lines, up to the first that a crash tore or that is damaged otherwise; [] where there is no file."""
    return complete(file.read_bytes())[0] if file.exists() else []


def complete(content: bytes) -> tuple[list[Row], int]:
    """The lines that are whole, up to the first that is not, and how many bytes they are."""
    rows: list[Row] = []
    length = 0
    with suppress(ValueError):
        for line in content.split(b"\n")[:-1]:  # what follows the last newline is empty or torn
            rows.append(orjson.loads(line))
            length += len(line) + 1
    return rows, length


def finite(value: Any) -> Any:
    """The value, or None in place of a float that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
