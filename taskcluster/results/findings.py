"""What the runs of a folder have found, read once. Free of torch.

in:  a folder that holds run folders at any depth
out: Findings: the finished runs by condition, points for charts, and one tidy table of every number
"""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from taskcluster.metrics import ALWAYS, Catalogue, Metric
from taskcluster.results.aggregate import (
    Condition,
    Point,
    conditions,
    find_runs,
    over_runs,
    seeds_of,
    sweep_of,
    task_set,
)
from taskcluster.results.instruments import Agreement, agreements_of
from taskcluster.results.statistics import emergence
from taskcluster.runs.condition import decisive, digest
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, finite, layers_of, number, parse
from taskcluster.runs.records import FinishedConfig, FinishedStatus, check, text
from taskcluster.runs.verdicts import judged
from taskcluster.validation import UserError
from taskcluster.views import shown

MOST = 50  # conditions that a reader can take in


@dataclass(frozen=True)
class Finished:
    """A finished run, read once."""

    path: str
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
        """The journal's keys of a metric on validation: by layer, or the one it has. [] where it was not measured."""
        stem = metric.stem("val")
        if metric.by_layer:
            return [metric.at("val", layer) for layer in range(len(layers_of(self.last, stem)))]
        return [stem] if stem in self.last else []

    def controls(self, metric: Metric, kind: str) -> list[list[float]]:
        """All repetitions of the controls of this kind that a metric has, for each of its layers; [] without any."""
        there = self.results.get("controls", {})
        of_kind = [c.key for c in self.catalogue.values() if (c.of, c.kind) == (metric.key, kind) and c.key in there]
        layers = zip_longest(*(there[key] for key in of_kind), fillvalue=())
        found = [[value for own in layer for value in own if value is not None] for layer in layers]
        return [found[k] if k < len(found) else [] for k in range(len(self.keys(metric)))] if any(found) else []

    def rises(self, metric: Metric) -> bool:
        """Whether it has a step of emergence: it goes from 0 to 1, and was measured more than once."""
        keys = self.keys(metric)
        return metric.emerges and bool(keys) and sum(keys[-1] in row for row in self.rows) > 1

    def emergence(self, key: str) -> float:
        rows = [row for row in self.rows if key in row]
        return emergence([row["step"] for row in rows], [number(row, key) for row in rows])


class Findings:
    """The finished runs at or below `root`, by condition; `gaps` names in sentences what is not among them.

    Raises UserError where there is no folder, or no finished run in it.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root} is not a folder; give the folder of a multirun")
        self.gaps: list[str] = []
        read = [run for folder in find_runs(root) if (run := self._read(folder, root))]
        finished = self._once([run for run in read if run[0].status.get("state") == "finished"])
        if not finished:
            said = f" ({'; '.join(self.gaps)})" if self.gaps else ""
            raise UserError(f"{root} holds no finished run{said}; give the folder of a multirun")
        self.conditions: list[Condition[Finished]] = conditions(finished)
        several = len({condition.sweep for condition in self.conditions}) > 1
        names = [f"{c.sweep}: {c.label}" if several and c.label != c.sweep else c.label for c in self.conditions]
        self.names = [text(name) for name in names]
        self.runs = [run for run, _, _ in finished]
        self.catalogue: Catalogue = {key: metric for run in self.runs for key, metric in run.catalogue.items()}
        self._miss_seeds()

    @property
    def claims(self) -> dict[str, Mapping[str, Any]]:
        """The claims by name, as any run has them; {} where none is decided in any run."""
        decided = any(judged(run.results) for run in self.runs)
        return {claim["name"]: claim for run in self.runs for claim in run.results["claims"]} if decided else {}

    def named(self) -> Iterator[tuple[str, Condition[Finished]]]:
        """The conditions, each with its name."""
        return zip(self.names, self.conditions, strict=True)

    def to_read(self, most: int = MOST) -> "Findings":
        """The same with `most` of the conditions, at equal distances in their order, where there are more."""
        n = len(self.conditions)
        if n <= most:
            return self
        chosen = [k * (n - 1) // (most - 1) for k in range(most)]
        fewer = copy(self)
        fewer.conditions, fewer.names = [self.conditions[k] for k in chosen], [self.names[k] for k in chosen]
        fewer.runs = [run for condition in fewer.conditions for run in condition.runs]
        return fewer

    def points(self) -> Iterator[tuple[str, list[Point]]]:
        """For charts: those of `over_runs` of every condition, by its name, which they have too."""
        for name, condition in self.named():
            journals, task_sets = [run.rows for run in condition.runs], [run.task_set for run in condition.runs]
            yield name, [{"condition": name, **p} for p in over_runs(journals, self.catalogue, task_sets)]

    def agreements(self) -> dict[str, list[Agreement]]:
        """Of the instruments that were measured, for each condition by its name."""
        return {name: agreements_of([run.rows for run in c.runs], self.catalogue) for name, c in self.named()}

    def tidy(self) -> Iterator[tuple[str, Finished, list[Row]]]:
        """A row for every number of every run, with the name of its condition and the run, a condition after another;
        without claims where none is decided.

        metric: as in the journal; "claim: NAME"; "emergence of METRIC" (a step); "METRIC with another KMeans seed", a
        control, whose repetitions are counted.
        """
        claims = bool(self.claims)
        for name, condition in self.named():
            for run in condition.runs:
                yield name, run, list(_numbers(run, claims))

    def _read(self, folder: RunFolder, root: Path) -> tuple[Finished, str, Mapping[str, Any]] | None:
        path = text(str(folder.path.relative_to(root)))
        try:
            status, config = folder.status(), folder.config()
            state = folder.state_by(lambda: status if status.get("state") == "finished" else folder.status())
            if state == "finished":
                return _finished(folder, path, status, config), text(sweep_of(folder.path, root)), config
        except UserError as damaged:
            self.gaps.append(text(str(damaged)))
            return None
        of = (status.get("starts") or [{}])[-1].get("max_steps", "?")
        reached = f"at step {status['step']} of {of}" if status.get("step") is not None else "before its first step"
        error = f": {text(status['error'])}" if status.get("error") else ""
        self.gaps.append(f"{path}: {state} {reached}{error}")
        return None

    def _once(self, runs: list[Any]) -> list[Any]:
        """Without runs that another equals in everything, seeds included: they would count twice."""
        kept: dict[tuple[str, str, str], Any] = {}
        for run, sweep, config in runs:
            first = kept.setdefault((sweep, digest(decisive(config)), run.seed), (run, sweep, config))[0]
            if first is not run:
                self.gaps.append(f"{run.path} is left out, as it repeats {first.path}")
        return list(kept.values())

    def _miss_seeds(self) -> None:
        seeds: dict[str, dict[str, None]] = {}
        for condition in self.conditions:
            seeds.setdefault(condition.sweep, {}).update(dict.fromkeys(run.seed for run in condition.runs))
        for sweep, of_sweep in seeds.items():
            for name, condition in self.named():
                own = {run.seed for run in condition.runs}
                if condition.sweep == sweep and (missing := [s for s in of_sweep if s not in own]):
                    self.gaps.append(f"{name} has no finished run with seed {', '.join(missing)}, as others have")


def _finished(folder: RunFolder, path: str, status: Row, config: Row) -> Finished:
    """A finished run. Raises UserError where its files are not what one leaves."""
    results, rows = folder.results(), folder.rows()
    check(status, folder.path / "status.json", FinishedStatus)
    check(config, folder.path / "config.yaml", FinishedConfig)
    last = status["starts"][-1]["max_steps"]
    if not rows or rows[-1]["step"] != last or not all(metric.stem("val") in rows[-1] for metric in ALWAYS):
        raise UserError(f"{folder.journal} is damaged (it lacks step {last}); restore it, or choose another folder")
    if not results:
        raise UserError(f"{folder.path / 'results.json'} is missing; run the same command again to write it")
    return Finished(path, text(seeds_of(config)), rows, results, status, config, folder.catalogue())


def _numbers(run: Finished, claims: bool) -> Iterator[dict[str, Any]]:
    def row(step: int, metric: str, value: Any, split: Any = None, layer: Any = None, repetition: Any = None) -> Row:
        named = {"metric": metric, "split": split, "layer": layer, "repetition": repetition}
        return {"step": step, **named, "value": None if value is None else finite(float(value))}

    for line in run.rows:
        for key, value in line.items():
            if named := parse(key):
                yield row(line["step"], named.metric, value, named.split, named.layer)
    end = run.last["step"]
    for claim in run.results["claims"] if claims else ():
        yield row(end, f"claim: {claim['name']}", claim["value"])
    for metric in shown(run.catalogue, "tables"):
        if run.rises(metric):
            keys = run.keys(metric)
            deepest = len(keys) - 1 if metric.by_layer else None
            yield row(end, f"emergence of {metric.key}", run.emergence(keys[-1]), "val", deepest)
    for key, layers in run.results.get("controls", {}).items():
        if control := run.catalogue.get(key):
            for layer, values in enumerate(layers):
                for k, value in enumerate(values):
                    yield row(end, f"{control.of} {control.where}", value, "val", layer, k)
