"""What a multirun found, as tables of words and numbers for a reader.

in:  Findings
out: Tables
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import Any, NamedTuple

from taskcluster.results.aggregate import Condition
from taskcluster.results.findings import AT, Findings, Finished, layer_key
from taskcluster.results.statistics import RISE, Interval, components, interval
from taskcluster.runs.journal import fixed, number
from taskcluster.runs.records import text

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


def tables(found: Findings) -> list[Table]:
    """All of a report, in the order in which they are read."""
    return [
        _what_was_run(found),
        _claims(found),
        *(_by_layer(found, metric) for metric in AT),
        _at_the_end(found),
        _emergence(found),
        *(_noise(found, metric) for metric in AT),
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
    return Table("Made with", ["", ""], rows, f"{resumed} of {len(found.runs)} runs were interrupted and went on.")


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


def _by_layer(found: Findings, metric: str) -> Table:
    deepest = max(len(run.ari_keys(metric)) for run in found.runs)
    rows = []
    for layer in range(deepest):
        of_layer = _last(layer_key(metric, layer))
        rows.append([str(layer), *(_shown(_over(condition, of_layer)) for condition in found.conditions)])
    note = "Validation, at the last step. Layer 0 is the embedding."
    return Table(f"ARI by layer, {AT[metric]}", ["layer", *found.names], rows, note)


def _at_the_end(found: Findings) -> Table:
    keys = [f"{split}/{metric}" for metric in ("accuracy", "loss") for split in ("train", "val")]
    rows = [[name, *(_shown(_over(c, _last(key))) for key in keys)] for name, c in found.named()]
    columns = ["condition", "train accuracy", "validation accuracy", "train loss", "validation loss"]
    return Table("Accuracy and loss", columns, rows, "At the last step; accuracy of y, given I and x; loss in nats.")


def _emergence(found: Findings) -> Table:
    rows = []
    for name, condition in found.named():
        for metric, where in AT.items():
            accuracy, ari, later = (_over(condition, _emerges(metric)[kind]) for kind in ("accuracy", "ari", "later"))
            rows.append([name, where, *(_shown(i, 0) for i in (accuracy, ari, later)), _first(later)])
    columns = ["condition", "ARI", "accuracy emerges", "ARI emerges", "ARI less accuracy", "first"]
    return Table("When accuracy and ARI emerge", columns, rows, EMERGENCE)


def _noise(found: Findings, metric: str) -> Table:
    rows = []
    for name, condition in found.named():
        measured = [run for run in condition.runs if "noise" in run.results]
        for layer in range(max(len(run.ari_keys(metric)) for run in condition.runs)):
            key = layer_key(metric, layer)
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


Column = Callable[[Finished], float]


def _over(condition: Condition[Finished], column: Column) -> Interval:
    return interval([column(run) for run in condition.runs])


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
        return run.emergence(layer_key(metric, len(run.ari_keys(metric)) - 1))

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
