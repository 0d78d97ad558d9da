"""Many runs as one table: conditions, and mean and interval over the runs of each. Free of torch, so it starts at once.

in:  a folder that holds run folders at any depth
out: its conditions, each with its runs; for each step and metric the mean over runs with its 95 % intervals
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from taskcluster.metrics import Catalogue
from taskcluster.results.bands import together
from taskcluster.results.bootstrap import MANY, interquartile, labels_of
from taskcluster.results.statistics import DRAWN, UNBOUNDED, Interval, intervals, limits, moments, telling
from taskcluster.runs.condition import decisive, digest
from taskcluster.runs.condition import seeds_of as seeds_of
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, parse

R = TypeVar("R")

Point = dict[str, Any]  # of a chart
FOR_CHARTS = ("least", "most", "runs")  # of a point


@dataclass(frozen=True)
class Condition(Generic[R]):
    """Runs of one sweep that differ in nothing but seeds.

    key: names it whatever else is there; sweep: see `sweep_of`; label: what tells it from the sweep's other conditions,
    "model.n_layer=2", or "model.n_layer=6, data.loss_on=y" of a control, or the sweep's name where it is the only one;
    settings: dotted key -> value of every key in which the sweep's conditions differ; runs: in the order they were
    given.
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
    namers = {sweep: _namer(_telling(differing[sweep], values), values) for sweep, values in of_sweep.items()}
    for (sweep, values_digest), members in groups.items():
        own = {key: settings[sweep, values_digest].get(key) for key in differing[sweep]}
        named = [f"{key.removesuffix('._target_')}={_short(own[key])}" for key in namers[sweep](own)]
        label = ", ".join(named) or sweep
        found.append(Condition(f"{sweep}-{values_digest}", sweep, label, own, members))
    return found


def task_set(config: Mapping[str, Any]) -> str:
    """What tells the tasks of a run from those of another of its condition."""
    sources = config.get("seeds") or {}
    return str((config.get("task") or {}).get("seed", sources.get("tasks", config.get("seed"))))


def over_runs(journals: Sequence[Sequence[Row]], known: Catalogue, task_sets: Sequence[str] = ()) -> list[Point]:
    """A point {"step", "metric", "split", "layer", "n", "mean", "sd", "lower", "upper"} for each step and metric of the
    journals of one condition's runs, which have these task sets. None stands for what is not a number, and for the ends
    of an interval that says nothing (`statistics.telling`). Intervals stay in the metric's range.

    Others hold together: "lower_over_steps", "upper_over_steps" at all steps of a curve; of numbers by layer also
    "lower_over_layers", "upper_over_layers" in all layers of the step, and "lower_over_map", "upper_over_map" in all
    layers and steps, of which there are "cells". For charts, points have "least" and "most" of the runs' values, and of
    several runs, but fewer than DRAWN, "runs", the value of each. From MANY runs on, points of the last step have
    "iqm", the interquartile mean, with "iqm_lower" and "iqm_upper".
    """
    by_step = [{row["step"]: row for row in rows} for rows in journals]
    named: list[dict[str, Any]] = []
    columns = [np.empty((len(journals), 0))]
    for step in sorted({step for rows in by_step for step in rows}):
        at_step = [rows.get(step, {}) for rows in by_step]
        keys = {key: parsed for row in at_step for key in row if (parsed := parse(key))}
        named += [{"step": step} | parsed._asdict() for parsed in keys.values()]
        columns.append(np.array([[row.get(key) for key in keys] for row in at_step], dtype=float))
    values, labels = np.concatenate(columns, axis=1), labels_of(task_sets, len(journals))
    within = ranges([name["metric"] for name in named], known)
    numbers = [column.tolist() for column in intervals(values, *within, task_sets)]
    points = [
        name | dict(zip(Interval._fields, of_point, strict=True))
        for name, *of_point in zip(named, *numbers, strict=True)
    ]
    for point, of_runs in zip(points, values.T.tolist(), strict=True):
        finite = [value for value in of_runs if math.isfinite(value)] or [math.nan]
        several = [value if math.isfinite(value) else None for value in of_runs] if 1 < len(of_runs) < DRAWN else None
        point |= {"runs": several, "least": min(finite), "most": max(finite)}
    _hold_together(points, values, labels, within)
    if len(journals) >= MANY:
        last = [k for k, point in enumerate(points) if point["step"] == points[-1]["step"]]
        iqm, *ends = interquartile(values[:, last], labels)
        n, sd = ([points[k][key] for k in last] for key in ("n", "sd"))
        found = iqm, *telling(n, iqm, sd, *ends, *(end[last] for end in within))
        for k, of_point in zip(last, np.array(found).T.tolist(), strict=True):
            points[k] |= dict(zip(("iqm", "iqm_lower", "iqm_upper"), of_point, strict=True))
    return [{key: None if value != value else value for key, value in point.items()} for point in points]


def ranges(metrics: Sequence[str], known: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest values that metrics can take, each (M,)."""
    found = [known[key].range if key in known else UNBOUNDED for key in metrics]
    low, high = np.array(found, dtype=float).reshape(-1, 2).T
    return low, high


def _hold_together(points: Sequence[Point], values: np.ndarray, labels: np.ndarray, within: Any) -> None:
    """Add to points the intervals that hold in many of them, none of which is shorter than that of the point alone."""
    found, of_curve = moments(values, labels), [(p["metric"], p["split"]) for p in points]
    for family, members in (
        ("steps", [(*curve, point["layer"]) for curve, point in zip(of_curve, points, strict=True)]),
        ("layers", [(*curve, point["step"]) for curve, point in zip(of_curve, points, strict=True)]),
        ("map", of_curve),
    ):
        times, cells = together(values, labels, found, members)
        ends = (end.tolist() for end in limits(found, times, *within))
        for point, lower, upper, n_cells in zip(points, *ends, cells.tolist(), strict=True):
            if family == "steps" or point["layer"] is not None:
                there = math.isfinite(lower) and math.isfinite(point["lower"])
                point[f"lower_over_{family}"] = min(lower, point["lower"]) if there else math.nan
                point[f"upper_over_{family}"] = max(upper, point["upper"]) if there else math.nan
            if family == "map" and point["layer"] is not None:
                point["cells"] = n_cells


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for values in settings for key in values)
    return [key for key in keys if any(values.get(key) != settings[0].get(key) for values in settings)]


def _telling(differing: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that tell the settings apart, without those that follow from another one, in every setting."""
    order = sorted(differing, key=lambda key: (not key.endswith("._target_"), key.startswith("scheduler.")))
    chosen: list[str] = []
    for key in order:
        if not any(_kinds([other, key], settings) == _kinds([other], settings) for other in chosen):
            chosen.append(key)
    return chosen


def _namer(
    telling: Sequence[str], settings: Sequence[Mapping[str, Any]]
) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    """What gives the keys that name a condition: all that tell conditions apart where they are a whole grid; otherwise
    the one with most values, and others where a condition, such as a control, has not the value that most have."""
    if not telling or len(settings) == math.prod(_kinds([key], settings) for key in telling):
        return lambda _: telling
    first = max(telling, key=lambda key: _kinds([key], settings))
    common = {key: usual(key, settings) for key in telling if key != first}
    return lambda own: [first, *(key for key, value in common.items() if own[key] != value)]


def usual(key: str, settings: Sequence[Mapping[str, Any]]) -> Any:
    """The value of a key that most conditions have, of as many the first."""
    texts = [json.dumps(values.get(key)) for values in settings]
    return settings[texts.index(Counter(texts).most_common(1)[0][0])].get(key)


def _kinds(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> int:
    return len({json.dumps([values.get(key) for key in keys]) for values in settings})


def _short(value: Any) -> str:
    return str(value).rpartition(".")[2] if isinstance(value, str) else str(value)
