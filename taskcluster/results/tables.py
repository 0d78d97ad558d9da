"""What a multirun found, as tables of words and numbers. Free of torch.

in:  a folder that holds run folders at any depth
out: Tables for a reader, points for charts, and one tidy table of every number that they were made from
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from taskcluster.results.aggregate import Condition, conditions, find_runs, over_runs, seeds_of, sweep_of
from taskcluster.results.statistics import RISE, Interval, components, emergence, interval
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, finite, fixed, layers_of, number, parse
from taskcluster.runs.records import FinishedConfig, FinishedStatus, check, text
from taskcluster.validation import UserError

AT = {"ari": "at the separator", "ari_within_x": "at x, within each value of x"}

MADE_WITH = ("machine", "device", "threads")
EMERGENCE = f"""The step at which a curve has made half of its rise, on a line between measured steps: validation
accuracy and the last layer's validation ARI. A curve that rises by less than {RISE} does not emerge (-)."""
NOISE = """Validation, last step. s.d. of KMeans: over seeds of KMeans on the same states. s.d. of training: over runs,
less what KMeans adds (variance components of one-way random effects: Searle, Casella and McCulloch, 1992; 0 where
KMeans explains it all). Chance: the same clusters against shuffled task labels."""


class Table(NamedTuple):
    """note: what a reader must know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Finished:
    """A finished run, read once."""

    path: str
    seed: str
    rows: list[Row]
    results: Mapping[str, Any]
    status: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def last(self) -> Row:
        return self.rows[-1]

    def ari_keys(self, metric: str) -> list[str]:
        """The journal's keys of a metric on validation, by layer."""
        return [_layer(metric, k) for k in range(len(layers_of(self.last, f"{metric}/val")))]

    def emergence(self, key: str) -> float:
        return emergence([row["step"] for row in self.rows], [number(row, key) for row in self.rows])


class Findings:
    """The finished runs at or below `root`, by condition; `gaps` names in sentences what is not among them.

    Raises UserError where there is no folder, or no finished run in it.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"there is no folder {root}; give the folder of a multirun")
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
        self._miss_seeds()

    def points(self) -> list[dict[str, Any]]:
        """For charts: those of `over_runs` with their condition."""
        return [
            {"condition": name, **point}
            for name, condition in zip(self.names, self.conditions, strict=True)
            for point in over_runs([run.rows for run in condition.runs])
        ]

    def tidy(self) -> list[dict[str, Any]]:
        """A row for every number of every run.

        metric: as in the journal; "claim: NAME"; "emergence of METRIC" (a step); "METRIC with another KMeans seed" and
        "METRIC of shuffled labels", whose repetitions are counted.
        """
        return [
            {"condition": name, "run": run.path, "seed": run.seed, **row}
            for name, condition in zip(self.names, self.conditions, strict=True)
            for run in condition.runs
            for row in _numbers(run)
        ]

    def tables(self) -> list[Table]:
        return [
            self._what_was_run(),
            self._claims(),
            *(self._by_layer(metric) for metric in AT),
            self._at_the_end(),
            self._emergence(),
            *(self._noise(metric) for metric in AT),
            self._made_with(),
        ]

    def _read(self, folder: RunFolder, root: Path) -> tuple[Finished, str, Mapping[str, Any]] | None:
        path = text(str(folder.path.relative_to(root)))
        try:
            status, config, state = folder.status(), folder.config(), folder.state
            if state == "finished":
                return _finished(folder, path), text(sweep_of(folder.path, root)), config
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
        kept: dict[tuple[str, str], Any] = {}
        for run, sweep, config in runs:
            (condition,) = conditions([(run, sweep, config)])
            first = kept.setdefault((condition.key, run.seed), (run, sweep, config))[0]
            if first is not run:
                self.gaps.append(f"{run.path} is left out, as it repeats {first.path}")
        return list(kept.values())

    def _miss_seeds(self) -> None:
        for sweep in {condition.sweep for condition in self.conditions}:
            seeds = {run.seed: None for c in self.conditions if c.sweep == sweep for run in c.runs}
            for name, condition in zip(self.names, self.conditions, strict=True):
                missing = [s for s in seeds if s not in {run.seed for run in condition.runs}]
                if condition.sweep == sweep and missing:
                    self.gaps.append(f"{name} has no finished run with seed {', '.join(missing)}, as others have")

    def _what_was_run(self) -> Table:
        keys = list(dict.fromkeys(key for condition in self.conditions for key in condition.settings))
        rows = []
        for name, condition in zip(self.names, self.conditions, strict=True):
            minutes = [run.status["wall_seconds"] / 60 for run in condition.runs]
            steps = "/".join(sorted({str(run.last["step"]) for run in condition.runs}))
            own = [str(condition.settings.get(key, "-")) for key in keys]
            seeds = "; ".join(run.seed for run in condition.runs)
            rows.append([name, *own, str(len(condition.runs)), seeds, steps, f"{fmean(minutes):.1f}"])
        columns = ["condition", *keys, "runs", "seeds", "steps", "minutes a run"]
        begun = sorted(start["time"] for run in self.runs for start in run.status["starts"])
        ended = max(str(run.last.get("time", begun[-1])) for run in self.runs)
        total = sum(run.status["wall_seconds"] for run in self.runs) / 3600
        note = f"Begun {_day(begun[0])}, last measured {_day(ended)}; {total:.2f} hours of runs."
        return Table("What was run", columns, rows, note + " Every other key is the same in all of a sweep's runs.")

    def _made_with(self) -> Table:
        facts: dict[str, Counter[str]] = {}
        for run in self.runs:
            start = run.status["starts"][-1]
            for key, value in [(key, start[key]) for key in MADE_WITH] + list(start["versions"].items()):
                facts.setdefault(key, Counter())[str(value)] += 1
        resumed = sum(len(run.status["starts"]) > 1 for run in self.runs)
        rows = [[key, _shared(values)] for key, values in facts.items()]
        return Table("Made with", ["", ""], rows, f"{resumed} of {len(self.runs)} runs were interrupted and went on.")

    def _claims(self) -> Table:
        rows = []
        for claim in {claim["name"]: claim for run in self.runs for claim in run.results["claims"]}.values():
            cells = []
            for condition in self.conditions:
                found = [_claim(run, claim["name"]).get("passed") for run in condition.runs]
                judged = [passed for passed in found if passed is not None]
                held = f", holds in {sum(judged)} of {len(judged)}" if judged else ""
                cells.append(_shown(_over(condition, _value(claim["name"]))) + held)
            rows.append([claim["name"], claim["paper"], f"{claim['relation']} {claim['threshold']}", *cells])
        note = (
            "Claims of Wu and Varshney (NAACL Findings 2025) about the ARI of clusters and tasks at the separator; the "
        )
        return Table(
            "The paper's claims", ["claim", "paper", "threshold", *self.names], rows, note + "thresholds are ours."
        )

    def _by_layer(self, metric: str) -> Table:
        deepest = max(len(run.ari_keys(metric)) for run in self.runs)
        rows = []
        for layer in range(deepest):
            of_layer = _last(_layer(metric, layer))
            rows.append([str(layer), *(_shown(_over(condition, of_layer)) for condition in self.conditions)])
        note = "Validation, at the last step. Layer 0 is the embedding."
        return Table(f"ARI by layer, {AT[metric]}", ["layer", *self.names], rows, note)

    def _at_the_end(self) -> Table:
        keys = [f"{split}/{metric}" for metric in ("accuracy", "loss") for split in ("train", "val")]
        rows = [[name, *(_shown(_over(c, _last(key))) for key in keys)] for name, c in self._named()]
        columns = ["condition", "train accuracy", "validation accuracy", "train loss", "validation loss"]
        return Table(
            "Accuracy and loss", columns, rows, "At the last step; accuracy of y, given I and x; loss in nats."
        )

    def _emergence(self) -> Table:
        rows = []
        for name, condition in self._named():
            for metric, where in AT.items():
                accuracy, ari, later = (
                    _over(condition, _emerges(metric)[kind]) for kind in ("accuracy", "ari", "later")
                )
                rows.append([name, where, *(_shown(i, 0) for i in (accuracy, ari, later)), _first(later)])
        columns = ["condition", "ARI", "accuracy emerges", "ARI emerges", "ARI less accuracy", "first"]
        return Table("When accuracy and ARI emerge", columns, rows, EMERGENCE)

    def _noise(self, metric: str) -> Table:
        rows = []
        for name, condition in self._named():
            measured = [run for run in condition.runs if "noise" in run.results]
            for layer in range(max(len(run.ari_keys(metric)) for run in condition.runs)):
                key = _layer(metric, layer)
                kmeans, shuffled = (
                    [_finite(run.results["noise"].get(source, {}).get(key, [])) for run in measured]
                    for source in ("kmeans", "chance")
                )
                chance = [value for values in shuffled for value in values]
                means, own, training = components(kmeans)
                level = [fixed(fmean(chance)), fixed(max(chance))] if chance else ["-", "-"]
                rows.append([name, str(layer), _shown(interval(means)), fixed(own), fixed(training), *level])
        columns = ["condition", "layer", "ARI, mean over KMeans seeds", "s.d. of KMeans", "s.d. of training"]
        columns += ["chance: mean", "chance: largest"]
        return Table(f"Noise of the ARI, {AT[metric]}", columns, rows, NOISE)

    def _named(self) -> Iterator[tuple[str, Condition[Finished]]]:
        return zip(self.names, self.conditions, strict=True)


def _finished(folder: RunFolder, path: str) -> Finished:
    """A finished run. Raises UserError where its files are not what one leaves."""
    config, status, results, rows = folder.config(), folder.status(), folder.results(), folder.rows()
    check(status, folder.path / "status.json", FinishedStatus)
    check(config, folder.path / "config.yaml", FinishedConfig)
    last = status["starts"][-1]["max_steps"]
    if not rows or rows[-1]["step"] != last or not all(layers_of(rows[-1], f"{m}/val") for m in AT):
        raise UserError(f"{folder.journal} is damaged (it lacks step {last}); restore it, or choose another folder")
    if not results:
        raise UserError(f"{folder.path / 'results.json'} is missing; run the same command again to write it")
    return Finished(path, text(seeds_of(config)), rows, results, status, config)


def _numbers(run: Finished) -> Iterator[dict[str, Any]]:
    def row(step: int, metric: str, value: Any, split: Any = None, layer: Any = None, repetition: Any = None) -> Row:
        named = {"metric": metric, "split": split, "layer": layer, "repetition": repetition}
        return {"step": step, **named, "value": None if value is None else finite(float(value))}

    for line in run.rows:
        for key, value in line.items():
            if named := parse(key):
                yield row(line["step"], named.metric, value, named.split, named.layer)
    end = run.last["step"]
    for claim in run.results["claims"]:
        yield row(end, f"claim: {claim['name']}", claim["value"])
    yield row(end, "emergence of accuracy", run.emergence("val/accuracy"), "validation")
    for metric in AT:
        deepest = len(run.ari_keys(metric)) - 1
        yield row(end, f"emergence of {metric}", run.emergence(_layer(metric, deepest)), "validation", deepest)
    sources = {"kmeans": "{} with another KMeans seed", "chance": "{} of shuffled labels"}
    for source, words in sources.items():
        for key, values in run.results.get("noise", {}).get(source, {}).items():
            if named := parse(key):
                for k, value in enumerate(values):
                    yield row(end, words.format(named.metric), value, named.split, named.layer, k)


Column = Callable[[Finished], float]


def _over(condition: Condition[Finished], column: Column) -> Interval:
    return interval([column(run) for run in condition.runs])


def _layer(metric: str, layer: int) -> str:
    return f"{metric}/val/layer_{layer}"


def _last(key: str) -> Column:
    return lambda run: number(run.last, key)


def _claim(run: Finished, name: str) -> Mapping[str, Any]:
    return next((claim for claim in run.results["claims"] if claim["name"] == name), {})


def _value(name: str) -> Column:
    return lambda run: number(_claim(run, name), "value")


def _emerges(metric: str) -> dict[str, Column]:
    def accuracy(run: Finished) -> float:
        return run.emergence("val/accuracy")

    def ari(run: Finished) -> float:
        return run.emergence(_layer(metric, len(run.ari_keys(metric)) - 1))

    return {"accuracy": accuracy, "ari": ari, "later": lambda run: ari(run) - accuracy(run)}


def _first(later: Interval) -> str:
    if later.n < 2:
        return "one run cannot tell" if later.n else "-"
    if later.lower > 0:
        return "accuracy"
    return "ARI" if later.upper < 0 else f"{later.n} runs cannot tell"


def _shown(found: Interval, digits: int = 3) -> str:
    if not found.n:
        return "-"
    bounds = f" [{found.lower:z.{digits}f}, {found.upper:z.{digits}f}]" if found.n > 1 else ""
    return f"{found.mean:z.{digits}f}{bounds}"


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _shared(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({n} runs)" for value, n in values.most_common())


def _day(time: str) -> str:
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text(time)
