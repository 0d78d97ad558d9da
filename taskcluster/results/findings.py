"""The finished runs of a folder, read once. Free of torch.

in:  a folder that holds run folders at any depth
out: Findings: the finished runs by condition, and what is missing
"""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, takewhile, zip_longest
from pathlib import Path
from typing import Any

from taskcluster.metrics import ALWAYS, Catalogue, Metric, belonging
from taskcluster.results.claims import emergence, judged
from taskcluster.results.conditions import Condition, conditions, find_runs, sweep_of, task_set
from taskcluster.results.correlations import Agreement, agreements_of
from taskcluster.results.points import Point, matrix_points, over_runs
from taskcluster.runs.condition import seeds_of
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, number
from taskcluster.runs.records import text
from taskcluster.validation import UserError

MOST = 50  # most conditions that a reader can take in


@dataclass(frozen=True)
class Finished:
    """A finished run, read once."""

    path: str
    sweep: str
    seed: str
    rows: list[Row]
    results: Mapping[str, Any]
    status: Mapping[str, Any]
    config: Mapping[str, Any]
    catalogue: Catalogue

    @property
    def task_set(self) -> str:
        return task_set(self.config)

    @property
    def last(self) -> Row:
        return self.rows[-1]

    def keys(self, metric: Metric) -> list[str]:
        """Return the journal's keys of a metric on validation: one per layer, or one; [] if it was not measured."""
        return _keys(tuple(self.last), metric.stem("val"), metric.by_layer)

    def repetitions(self, metric: Metric) -> list[list[float]]:
        """For each layer a metric's values with other seeds of its measurement; [] without such controls."""
        controls = self.results.get("controls", {})
        repeated = [controls[c.key] for c in belonging(self.catalogue, metric, "noise") if c.key in controls]
        layers = zip_longest(*repeated, fillvalue=())
        return [[value for values in layer for value in values if value is not None] for layer in layers]

    def claim(self, name: str) -> Mapping[str, Any]:
        return next((claim for claim in self.results["claims"] if claim["name"] == name), {})

    def rises(self, metric: Metric) -> bool:
        """Whether it has a step of emergence: it goes from 0 to 1, and was measured more than once."""
        keys = self.keys(metric)
        return metric.emerges and bool(keys) and sum(keys[-1] in row for row in self.rows) > 1

    def emergence(self, metric: Metric) -> float:
        """The step at which a metric emerges on validation, in the last layer; NaN if it does not."""
        keys = self.keys(metric)
        rows = [row for row in self.rows if keys and keys[-1] in row]
        return emergence([row["step"] for row in rows], [number(row, keys[-1]) for row in rows])


class Findings:
    """The finished runs at or below `root`, by condition; `gaps` says in sentences what is missing.

    Raises UserError if `root` is not a folder, or contains no finished run.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root} is not a folder; give the folder of a multirun")
        self.root, self.gaps = root, list[str]()
        read = [run for folder in find_runs(root) if (run := self._read(folder, root))]
        if not read:
            said = f" ({'; '.join(self.gaps)})" if self.gaps else ""
            raise UserError(f"{root} contains no finished run{said}; give the folder of a multirun")
        self.conditions = conditions([(run, run.sweep, run.config) for run in read])
        repeated = self._drop_repeated()
        self.runs = [run for run in read if id(run) not in repeated]
        several = len({condition.sweep for condition in self.conditions}) > 1
        names = [f"{c.sweep}: {c.label}" if several and c.label != c.sweep else c.label for c in self.conditions]
        self.names = [text(name) for name in names]
        catalogues = {id(run.catalogue): run.catalogue for run in self.runs}  # runs that declare the same share it
        self.catalogue: Catalogue = {key: metric for one in catalogues.values() for key, metric in one.items()}
        self._miss_seeds()

    def measured(self, metric: Metric) -> bool:
        """Whether a run measured the metric on validation at its last step."""
        return any(run.keys(metric) for run in self.runs)

    @property
    def claims(self) -> dict[str, Mapping[str, Any]]:
        """The claims by name, as any run has them; {} if none is decided in any run."""
        decided = any(judged(run.results) for run in self.runs)
        return {claim["name"]: claim for run in self.runs for claim in run.results["claims"]} if decided else {}

    def named(self) -> Iterator[tuple[str, Condition[Finished]]]:
        """The conditions, each with its name."""
        return zip(self.names, self.conditions, strict=True)

    def to_read(self, most: int = MOST) -> "Findings":
        """The same with `most` of the conditions, at equal distances in their order, if there are more."""
        n = len(self.conditions)
        chosen = range(n) if n <= most else [k * (n - 1) // (most - 1) for k in range(most)]
        fewer = copy(self)
        fewer.conditions, fewer.names = [self.conditions[k] for k in chosen], [self.names[k] for k in chosen]
        fewer.runs = [run for condition in fewer.conditions for run in condition.runs]
        return fewer

    def points(self) -> Iterator[tuple[str, list[Point]]]:
        """The points of `over_runs` of every condition by its name, which is also in each point."""
        for name, condition in self.named():
            journals, task_sets = [run.rows for run in condition.runs], [run.task_set for run in condition.runs]
            yield name, [{"condition": name, **p} for p in over_runs(journals, self.catalogue, task_sets)]

    def matrix_points(self) -> list[Point]:
        """The points of `matrix_points` at the last step, of every condition, whose name is in each."""
        last = ((name, [run.last for run in condition.runs]) for name, condition in self.named())
        return [{"condition": name, **p} for name, rows in last for p in matrix_points(rows, self.catalogue)]

    def agreements(self) -> dict[str, list[Agreement]]:
        """The agreements of the instruments that were measured, for each condition by its name."""
        return {name: agreements_of([run.rows for run in c.runs], self.catalogue) for name, c in self.named()}

    def _read(self, folder: RunFolder, root: Path) -> Finished | None:
        path = text(str(folder.path.relative_to(root)))
        try:
            state, status, config = folder.state, folder.status(), folder.config()
            if state == "finished":
                return _finished(folder, path, text(sweep_of(folder.path, root)), status, config)
        except UserError as damaged:
            self.gaps.append(text(str(damaged)))
            return None
        step, max_steps = status.get("step"), (status.get("starts") or [{}])[-1].get("max_steps", "?")
        reached = "before its first step" if step is None else f"at step {step} of {max_steps}"
        error = f": {text(status['error'])}" if status.get("error") else ""
        self.gaps.append(f"{path}: {state} {reached}{error}")
        return None

    def _drop_repeated(self) -> set[int]:
        """Drop runs that equal another one, seeds included, as they would count twice; return their identities."""
        repeated: set[int] = set()
        for condition in self.conditions:
            kept: dict[str, Finished] = {}
            for run in condition.runs:
                first = kept.setdefault(run.seed, run)
                if first is not run:
                    repeated.add(id(run))
                    self.gaps.append(f"{run.path} is left out, as it repeats {first.path}")
            condition.runs[:] = kept.values()
        return repeated

    def _miss_seeds(self) -> None:
        for sweep in dict.fromkeys(condition.sweep for condition in self.conditions):
            in_sweep = [(name, c.runs) for name, c in self.named() if c.sweep == sweep]
            seeds = dict.fromkeys(run.seed for _, runs in in_sweep for run in runs)
            for name, runs in in_sweep:
                if missing := [seed for seed in seeds if seed not in {run.seed for run in runs}]:
                    self.gaps.append(f"{name} has no finished run with seed {', '.join(missing)}, as others have")


@lru_cache(maxsize=4096)
def _keys(there: tuple[str, ...], stem: str, by_layer: bool) -> list[str]:
    """The keys of a metric among those of a line: "STEM/layer_0", "STEM/layer_1", ..., or STEM."""
    if not by_layer:
        return [stem] if stem in there else []
    known = frozenset(there)
    return [*takewhile(known.__contains__, (f"{stem}/layer_{layer}" for layer in count()))]


def _finished(folder: RunFolder, path: str, sweep: str, status: Row, config: Row) -> Finished:
    """A finished run. Raises UserError if its files are not those of one."""
    results, rows = folder.results(), folder.rows()
    last = (status.get("starts") or [{}])[-1].get("max_steps")
    if not rows or rows[-1]["step"] != last or not all(metric.stem("val") in rows[-1] for metric in ALWAYS):
        raise UserError(f"{folder.journal} is damaged (it lacks step {last}); restore it, or choose another folder")
    if not (config and results):
        missing = folder.path / ("results.json" if config else "config.yaml")
        raise UserError(f"{missing} is missing; restore it, or run the same command again to write it")
    return Finished(path, sweep, text(seeds_of(config)), rows, results, status, config, folder.catalogue())
