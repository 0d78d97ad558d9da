"""The findings of a multirun as tables.

in:  Findings
out: Tables
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import Any, NamedTuple

from taskcluster.metrics import ACCURACY, Metric, shown
from taskcluster.results.aggregate import Condition
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.statistics import RISE, Interval, components, interval
from taskcluster.runs.journal import SPLITS, fixed, number
from taskcluster.runs.records import text

MADE_WITH = ("machine", "device", "threads")
EMERGENCE = f"""The step at which a curve has made half of its rise, on a line between measured steps: validation
accuracy, and the metric on validation, in the last layer where it has several. A curve that rises by less than {RISE}
does not emerge (-)."""
CONTROLS = """Validation, last step. s.d. of KMeans: over seeds of KMeans on the same states. s.d. of training: over
runs, less what KMeans adds (variance components of one-way random effects: Searle, Casella and McCulloch, 1992; 0 where
KMeans explains it all). Chance: the same clusters against shuffled task labels."""


class Table(NamedTuple):
    """note: what a reader must know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def tables(found: Findings) -> list[Table]:
    """All of a report, in the order in which they are read."""
    by_layer = [m for m in shown(found.catalogue, "tables", by_layer=True) if any(run.keys(m) for run in found.runs)]
    return [
        _what_was_run(found),
        _claims(found),
        *(_by_layer(found, metric) for metric in by_layer),
        _at_the_end(found),
        _emergence(found),
        *(_controls(found, metric) for metric in by_layer if any(run.controls(metric, "noise") for run in found.runs)),
        _metrics(found),
        _made_with(found),
    ]


def _what_was_run(found: Findings) -> Table:
    keys = list(dict.fromkeys(key for condition in found.conditions for key in condition.settings))
    rows = []
    for name, condition in found.named():
        minutes = [run.status["wall_seconds"] / 60 for run in condition.runs]
        steps = "/".join(sorted({str(run.last["step"]) for run in condition.runs}))
        own = [str(condition.settings.get(key, "-")) for key in keys]
        seeds = "; ".join(run.seed for run in condition.runs)
        rows.append([name, *own, str(len(condition.runs)), seeds, steps, f"{fmean(minutes):.1f}"])
    columns = ["condition", *keys, "runs", "seeds", "steps", "minutes a run"]
    begun = sorted(start["time"] for run in found.runs for start in run.status["starts"])
    ended = max(str(run.last.get("time", begun[-1])) for run in found.runs)
    total = sum(run.status["wall_seconds"] for run in found.runs) / 3600
    note = f"Begun {_day(begun[0])}, last measured {_day(ended)}; {total:.2f} hours of runs."
    return Table("What was run", columns, rows, note + " Every other key is the same in all of a sweep's runs.")


def _made_with(found: Findings) -> Table:
    facts: dict[str, Counter[str]] = {}
    for run in found.runs:
        start = run.status["starts"][-1]
        for key, value in [(key, start[key]) for key in MADE_WITH] + list(start["versions"].items()):
            facts.setdefault(key, Counter())[str(value)] += 1
    resumed = sum(len(run.status["starts"]) > 1 for run in found.runs)
    rows = [[key, _shared(values)] for key, values in facts.items()]
    return Table("Environment", ["", ""], rows, f"{resumed} of {len(found.runs)} runs were interrupted and resumed.")


def _claims(found: Findings) -> Table:
    rows = []
    for claim in {claim["name"]: claim for run in found.runs for claim in run.results["claims"]}.values():
        cells = []
        for condition in found.conditions:
            verdicts = [_claim(run, claim["name"]).get("passed") for run in condition.runs]
            judged = [passed for passed in verdicts if passed is not None]
            held = f", holds in {sum(judged)} of {len(judged)}" if judged else ""
            cells.append(_shown(_over(condition, _value(claim["name"]))) + held)
        rows.append([claim["name"], claim["paper"], f"{claim['relation']} {claim['threshold']}", *cells])
    note = "Claims of Wu and Varshney (NAACL Findings 2025) about the ARI of clusters and tasks at the separator; the "
    return Table(
        "The paper's claims", ["claim", "paper", "threshold", *found.names], rows, note + "thresholds are ours."
    )


def _by_layer(found: Findings, metric: Metric) -> Table:
    deepest = max(len(run.keys(metric)) for run in found.runs)
    rows = []
    for layer in range(deepest):
        of_layer = _last(metric.at("val", layer))
        rows.append([str(layer), *(_shown(_over(condition, of_layer)) for condition in found.conditions)])
    note = "Validation, at the last step. Layer 0 is the embedding."
    return Table(f"{metric.name} by layer, {metric.where}".rstrip(", "), ["layer", *found.names], rows, note)


def _at_the_end(found: Findings) -> Table:
    known = shown(found.catalogue, "tables", by_layer=False)
    keys = [metric.stem(split) for metric in known for split in SPLITS]
    rows = [[name, *(_shown(_over(c, _last(key))) for key in keys)] for name, c in found.named()]
    columns = ["condition", *(f"{words} {metric.name}" for metric in known for words in SPLITS.values())]
    return Table("Accuracy and loss", columns, rows, "At the last step; accuracy of y, given I and x; loss in nats.")


def _emergence(found: Findings) -> Table:
    rows = []
    for name, condition in found.named():
        for metric in shown(found.catalogue, "tables"):
            if metric.emerges and metric != ACCURACY:
                compared = (_over(condition, _emerges(metric)[kind]) for kind in ("accuracy", "metric", "later"))
                accuracy, own, later = compared
                cells = [_shown(interval, 0) for interval in (accuracy, own, later)]
                rows.append([name, metric.title, *cells, _first(metric, later)])
    columns = ["condition", "metric", "accuracy emerges", "metric emerges", "metric less accuracy", "first"]
    return Table("When accuracy and clusters emerge", columns, rows, EMERGENCE)


def _controls(found: Findings, metric: Metric) -> Table:
    rows = []
    for name, condition in found.named():
        noise = [run.controls(metric, "noise") for run in condition.runs]
        shuffled = [run.controls(metric, "chance") for run in condition.runs]
        for layer in range(max(len(run.keys(metric)) for run in condition.runs)):
            repeated = [layers[layer] for layers in noise if layer < len(layers)]
            chance = [value for layers in shuffled if layer < len(layers) for value in layers[layer]]
            means, own, training = components(repeated)
            level = [fixed(fmean(chance)), fixed(max(chance))] if chance else ["-", "-"]
            rows.append([name, str(layer), _shown(interval(means)), fixed(own), fixed(training), *level])
    columns = ["condition", "layer", f"{metric.name}, mean over KMeans seeds", "s.d. of KMeans", "s.d. of training"]
    columns += ["chance: mean", "chance: largest"]
    return Table(f"Controls of the {metric.name}, {metric.where}".rstrip(", "), columns, rows, CONTROLS)


def _metrics(found: Findings) -> Table:
    def bound(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    rows = [
        [m.key, m.title, m.position or "-", f"{bound(m.low)} to {bound(m.high)}", bound(m.chance)]
        for m in found.catalogue.values()
    ]
    columns = ["key", "metric", "position", "range", "level of chance"]
    return Table("Metrics", columns, rows, "Every number of every run is in the table of numbers under its key.")


Column = Callable[[Finished], float]


def _over(condition: Condition[Finished], column: Column) -> Interval:
    return interval([column(run) for run in condition.runs])


def _last(key: str) -> Column:
    return lambda run: number(run.last, key)


def _claim(run: Finished, name: str) -> Mapping[str, Any]:
    return next((claim for claim in run.results["claims"] if claim["name"] == name), {})


def _value(name: str) -> Column:
    return lambda run: number(_claim(run, name), "value")


def _emerges(metric: Metric) -> dict[str, Column]:
    def accuracy(run: Finished) -> float:
        return run.emergence(ACCURACY.stem("val"))

    def own(run: Finished) -> float:
        keys = run.keys(metric)
        return run.emergence(keys[-1]) if keys else math.nan

    return {"accuracy": accuracy, "metric": own, "later": lambda run: own(run) - accuracy(run)}


def _first(metric: Metric, later: Interval) -> str:
    if later.n < 2:
        return "one run cannot tell" if later.n else "-"
    if later.lower > 0:
        return ACCURACY.name
    return metric.name if later.upper < 0 else f"{later.n} runs cannot tell"


def _shown(found: Interval, digits: int = 3) -> str:
    if not found.n:
        return "-"
    bounds = f" [{found.lower:z.{digits}f}, {found.upper:z.{digits}f}]" if found.n > 1 else ""
    return f"{found.mean:z.{digits}f}{bounds}"


def _shared(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({n} runs)" for value, n in values.most_common())


def _day(time: str) -> str:
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text(time)
