"""Run folders grouped into conditions. Free of torch, so it starts at once.

in:  a folder that holds run folders at any depth
out: its conditions: runs that differ in nothing but seeds, with a name that tells them apart
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, TypeVar

from taskcluster.runs.condition import decisive, digest
from taskcluster.runs.folder import RunFolder

R = TypeVar("R")
Settings = Mapping[str, Any]

MARKS = {"config.yaml", "status.json"}  # files of which a run folder has at least one
PARTS = {"checkpoints", "figures", "tensorboard", "wandb"}  # subfolders of a run, which may hold such files too


@dataclass(frozen=True)
class Condition(Generic[R]):
    """Runs of one sweep that differ in nothing but seeds.

    key: unique among all conditions; sweep: see `sweep_of`; label: what distinguishes it from the
    sweep's other conditions, "model.n_layer=2", or "model.n_layer=6, data.loss_on=y" for a control, or the sweep's name
    if it is the only one; settings: dotted key -> value of every key in which the sweep's conditions differ; runs: in
    the order they were given.
    """

    key: str
    sweep: str
    label: str
    settings: dict[str, Any] = field(hash=False)
    runs: list[R] = field(hash=False)


def find_runs(root: Path) -> list[RunFolder]:
    """The run folders at or below `root`, and the analyses in their folders analysis/, in natural order (seed=2 before
    seed=10). Links are not followed."""
    runs = []
    for folder, subfolders, files in os.walk(root):
        is_run = not MARKS.isdisjoint(files)
        runs += [folder] if is_run else []
        subfolders[:] = [name for name in subfolders if not (name.startswith(".") or (is_run and name in PARTS))]
    return [RunFolder(Path(path)) for path in sorted(runs, key=_natural)]


def _natural(text: str) -> list[tuple[int, str]]:
    """A sort key that compares digits as numbers."""
    return [(int(part), "") if k % 2 else (-1, part) for k, part in enumerate(re.split(r"(\d+)", text))]


def sweep_of(run: Path, root: Path) -> str:
    """The folder above the folders of conditions and seeds, relative to `root`, or the name of `root` itself. The sweep
    of an analysis is that of its run."""
    folder = run.parents[1] if run.parent.name == "analysis" and run.parent != root else run
    above = folder.relative_to(root).parts[:-1] if folder.is_relative_to(root) else ()
    return "/".join(takewhile(lambda name: "=" not in name, above)) or root.resolve().name


def task_set(config: Settings) -> str:
    """The seed of a run's tasks: runs of one condition with the same one have the same tasks."""
    sources = config.get("seeds") or {}
    return str((config.get("task") or {}).get("seed", sources.get("tasks", config.get("seed"))))


def conditions(runs: Sequence[tuple[R, str, Settings]]) -> list[Condition[R]]:
    """Group runs, each given with its sweep and its resolved configuration, in the order in which they first appear."""
    sweeps: dict[str, dict[str, Settings]] = {}
    members: dict[tuple[str, str], list[R]] = {}
    for run, sweep, config in runs:
        values = decisive(config)
        key = digest(values)
        sweeps.setdefault(sweep, {})[key] = values
        members.setdefault((sweep, key), []).append(run)
    labels = {
        (sweep, key): labelled
        for sweep, settings in sweeps.items()
        for key, labelled in zip(settings, _labels([*settings.values()]), strict=True)
    }
    return [
        Condition(f"{sweep}-{key}", sweep, labels[sweep, key][0] or sweep, labels[sweep, key][1], condition_runs)
        for (sweep, key), condition_runs in members.items()
    ]


def short_names(names: Sequence[str]) -> list[str]:
    """Names of conditions whose keys stand alone, "weight_decay=0.3" for "optimizer.weight_decay=0.3", where that
    leaves them distinct."""
    short = {name: re.sub(r"(?:\w+\.)+(?=\w+=)", "", name) for name in names}
    times = Counter(short.values())
    return [short[name] if times[short[name]] == 1 else name for name in names]


def usual(key: str, settings: Sequence[Settings]) -> Any:
    """The most frequent value of a key, the first of several."""
    texts = [json.dumps(values.get(key)) for values in settings]
    return settings[texts.index(Counter(texts).most_common(1)[0][0])].get(key)


def differing_keys(settings: Sequence[Settings]) -> list[str]:
    """The keys that do not have the same value in all, in order."""
    keys = dict.fromkeys(key for values in settings for key in values)
    return [key for key in keys if any(values.get(key) != settings[0].get(key) for values in settings)]


def _labels(settings: Sequence[Settings]) -> list[tuple[str, dict[str, Any]]]:
    """For each condition of a sweep its label, and its settings restricted to the keys that differ between conditions.

    A label names all keys that tell conditions apart if the conditions are a whole grid. Otherwise it names the key
    with most values, and others where a condition, such as a control, departs from the usual value.
    """
    differing = differing_keys(settings)
    telling = _without_redundant(differing, settings)
    common: dict[str, Any] = {}
    if telling and len(settings) != math.prod(_n_values([key], settings) for key in telling):
        first = max(telling, key=lambda key: _n_values([key], settings))
        common = {key: usual(key, settings) for key in telling if key != first}
        telling = [first, *common]
    labelled = []
    for values in settings:
        named = [key for key in telling if key not in common or values.get(key) != common[key]]
        label = ", ".join(f"{key.removesuffix('._target_')}={_short(values.get(key))}" for key in named)
        labelled.append((label, {key: values.get(key) for key in differing}))
    return labelled


def _without_redundant(keys: Sequence[str], settings: Sequence[Settings]) -> list[str]:
    """The keys without those whose value follows from another one's in every setting."""
    chosen: list[str] = []
    for key in sorted(keys, key=lambda k: (k != "objective", not k.endswith("._target_"), k.startswith("scheduler."))):
        if not any(_n_values([other, key], settings) == _n_values([other], settings) for other in chosen):
            chosen.append(key)
    return chosen


def _n_values(keys: Sequence[str], settings: Sequence[Settings]) -> int:
    return len({json.dumps([values.get(key) for key in keys]) for values in settings})


def _short(value: Any) -> str:
    return str(value).rpartition(".")[2] if isinstance(value, str) else str(value)
