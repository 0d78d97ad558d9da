"""Many runs as one table: conditions, and mean and interval over the runs of each. Free of torch, so it starts at once.

in:  a folder that holds run folders at any depth
out: its conditions, each with its runs; for each step and metric the mean over runs with its 95 % intervals
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from taskcluster.metrics import Catalogue
from taskcluster.results.statistics import UNBOUNDED, Interval, intervals, limits
from taskcluster.runs.condition import decisive, digest
from taskcluster.runs.condition import seeds_of as seeds_of
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, parse

R = TypeVar("R")

Point = dict[str, Any]  # of a chart


@dataclass(frozen=True)
class Condition(Generic[R]):
    """Runs of one sweep that differ in nothing but seeds.

    key: names it whatever else is there; sweep: see `sweep_of`; label: what tells it from the sweep's other conditions,
    "model.n_layer=2", or "model.n_layer=6, data.loss_on=y" of a control, or the sweep's name where it is the only one; settings: dotted key -> value of every key in which
    the sweep's conditions differ; runs: in the order they were given.
    """

    key: str
    sweep: str
    label: str
    settings: dict[str, Any] = field(hash=False)
    runs: list[R] = field(hash=False)


MARKS = {"config.yaml", "status.json"}  # of which a run folder has at least one
PARTS = {"checkpoints", "figures", "tensorboard", "wandb"}  # of a run folder, which may hold such files too


def find_runs(root: Path) -> list[RunFolder]:
    """The run folders at or below `root`, in natural order (seed=2 before seed=10), and what was measured of each later
    in its folder analysis/. Links are not followed."""

    def walk(folder: str) -> Iterator[str]:
        try:
            entries = {entry.name: entry for entry in os.scandir(folder)}
        except OSError:  # gone by now, or not ours to read
            return
        is_run = not MARKS.isdisjoint(entries)
        if is_run:
            yield folder
        for name, entry in entries.items():
            part = name.startswith(".") or (is_run and name in PARTS)
            if not part and entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path)

    return [RunFolder(Path(path)) for path in sorted(walk(str(root)), key=natural)]


def natural(text: str) -> list[tuple[int, str]]:
    """A key to sort by that takes digits as numbers."""
    return [(int(part), "") if k % 2 else (-1, part) for k, part in enumerate(re.split(r"(\d+)", text))]


def sweep_of(run: Path, root: Path) -> str:
    """The folder that holds those of conditions and seeds, relative to `root`, or the name of `root` if it is that; of
    an analysis, that of its run."""
    own = run.parents[1] if run.parent.name == "analysis" and run.parent != root else run
    above = own.relative_to(root).parts[:-1] if own.is_relative_to(root) else ()
    return "/".join(takewhile(lambda name: "=" not in name, above)) or root.resolve().name


def conditions(runs: Sequence[tuple[R, str, Mapping[str, Any]]]) -> list[Condition[R]]:
    """Group runs, each given with its sweep and its resolved configuration, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[R]] = {}
    settings: dict[tuple[str, str], dict[str, Any]] = {}
    for run, sweep, config in runs:
        values = decisive(config)
        key = sweep, digest(values)
        groups.setdefault(key, []).append(run)
        settings[key] = values
    found = []
    of_sweep: dict[str, list[dict[str, Any]]] = {}
    for (sweep, _), values in settings.items():
        of_sweep.setdefault(sweep, []).append(values)
    differing = {sweep: _differing(values) for sweep, values in of_sweep.items()}
    telling = {sweep: _telling(differing[sweep], values) for sweep, values in of_sweep.items()}
    for (sweep, values_digest), members in groups.items():
        own = {key: settings[sweep, values_digest].get(key) for key in differing[sweep]}
        keys = _unusual(own, telling[sweep], of_sweep[sweep])
        named = [f"{key.removesuffix('._target_')}={_short(own[key])}" for key in keys]
        label = ", ".join(named) or sweep
        found.append(Condition(f"{sweep}-{values_digest}", sweep, label, own, members))
    return found


def over_runs(journals: Sequence[Sequence[Row]], known: Catalogue) -> list[Point]:
    """A point {"step", "metric", "split", "layer", "n", "mean", "sd", "lower", "upper"} for each step and metric of the
    journals of one condition's runs. None stands for what is not a number. Intervals are cut at the ends of the
    metric's range.

    Numbers by layer also have intervals that hold together: "lower_over_layers", "upper_over_layers" in all layers of
    the step; "lower_over_map", "upper_over_map" in all cells of the map, layers and steps, of which there are "cells".
    """
    by_step: dict[int, list[Row]] = {}
    for rows in journals:
        for row in rows:
            by_step.setdefault(row["step"], []).append(row)
    points: list[Point] = []
    for step, rows in sorted(by_step.items()):
        keys = {key: named for row in rows for key in row if (named := parse(key))}
        values = np.array([[row.get(key) for key in keys] for row in rows], dtype=float)
        columns = [column.tolist() for column in intervals(values, *ranges([k.metric for k in keys.values()], known))]
        for named, *numbers in zip(keys.values(), *columns, strict=True):
            points.append({"step": step} | named._asdict() | dict(zip(Interval._fields, numbers, strict=True)))
    _hold_together([point for point in points if point["layer"] is not None], known)
    return [{key: None if value != value else value for key, value in point.items()} for point in points]


def ranges(metrics: Sequence[str], known: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest values that metrics can take, each (M,)."""
    found = [known[key].range if key in known else UNBOUNDED for key in metrics]
    low, high = np.array(found, dtype=float).reshape(-1, 2).T
    return low, high


def _hold_together(points: Sequence[Point], known: Catalogue) -> None:
    """Add to points by layer the intervals that hold in many of them."""
    together = [point for point in points if point["n"] > 1]
    of_map = Counter((point["metric"], point["split"]) for point in together)
    of_step = Counter((point["metric"], point["split"], point["step"]) for point in together)
    n, mean, sd = (np.array([point[key] for point in points]) for key in ("n", "mean", "sd"))
    within = ranges([point["metric"] for point in points], known)
    for family, counts in (
        ("layers", [of_step[point["metric"], point["split"], point["step"]] for point in points]),
        ("map", [of_map[point["metric"], point["split"]] for point in points]),
    ):
        lower, upper = limits(n, mean, sd, *within, np.maximum(counts, 1))
        for point, *ends in zip(points, lower.tolist(), upper.tolist(), strict=True):
            point |= dict(zip((f"lower_over_{family}", f"upper_over_{family}"), ends, strict=True))
    for point in points:
        point["cells"] = of_map[point["metric"], point["split"]]


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for values in settings for key in values)
    return [key for key in keys if any(values.get(key) != settings[0].get(key) for values in settings)]


def _telling(differing: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first keys that suffice to tell the settings apart; what was chosen before what follows from it."""
    order = sorted(differing, key=lambda key: (not key.endswith("._target_"), key.startswith("scheduler.")))
    chosen: list[str] = []
    for key in order:
        if _kinds([*chosen, key], settings) > _kinds(chosen, settings):
            chosen.append(key)
    return chosen


def _unusual(own: Mapping[str, Any], telling: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """The keys that name a condition: all that tell conditions apart where they are a whole grid; otherwise the one
    with most values, and others where a condition, such as a control, has not the value that most have."""
    if not telling or len(settings) == math.prod(_kinds([key], settings) for key in telling):
        return telling
    first = max(telling, key=lambda key: _kinds([key], settings))
    others = [key for key in telling if key != first and own[key] != usual(key, settings)]
    return [first, *others]


def usual(key: str, settings: Sequence[Mapping[str, Any]]) -> Any:
    """The value of a key that most conditions have, of as many the first."""
    texts = [json.dumps(values.get(key)) for values in settings]
    return settings[texts.index(Counter(texts).most_common(1)[0][0])].get(key)


def _kinds(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> int:
    return len({json.dumps([values.get(key) for key in keys]) for values in settings})


def _short(value: Any) -> str:
    return str(value).rpartition(".")[2] if isinstance(value, str) else str(value)
