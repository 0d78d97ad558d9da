"""The findings of a multirun as tables.

in:  Findings
out: Tables
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from statistics import fmean

from taskcluster.metrics import ACCURACY, Metric, belonging
from taskcluster.results import contrasts, variance
from taskcluster.results.bootstrap import MANY, strata
from taskcluster.results.cells import Table, as_text, ends, estimate, interval_of, point_text, titled
from taskcluster.results.claims import RISE
from taskcluster.results.correlations import ALL, LAST
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import CONFIDENCE, FEWEST, UNBOUNDED, Interval
from taskcluster.results.points import Point
from taskcluster.runs.journal import SPLITS, number
from taskcluster.runs.records import text
from taskcluster.runs.verdicts import held
from taskcluster.views import shown

Ending = Mapping[tuple[str, str, str, int | None], Point]  # points of the last step by condition, metric, split, layer

MADE_WITH = ("machine", "device", "threads")
P_VALUES = """p: the largest over runs, of a permutation test of each run (Phipson and Smyth, 2010): how often the same
clusters fit shuffled tasks as well."""
EMERGENCE = f"""The step at which a curve has made half of its rise, on a line between measured steps: validation
accuracy, and the metric on validation, in the last layer where it has several. A curve that rises by less than {RISE}
does not emerge (-)."""
CLAIMS = """Claims of Wu and Varshney (NAACL Findings 2025) about the ARI of clusters and tasks at the separator; the
thresholds are ours. A claim is decided in runs in which what it is about has happened, such as a rise."""
AGREEMENT = """Spearman's rank correlation on validation, within each run over the layers and steps at which both were
measured, or over the layers of the last of these steps; mean and interval over runs by Fisher's z. All that grows with
training and depth agrees over layers and steps; the last step tells more."""
INTERQUARTILE = f"""Validation, last step; in the last layer where a metric has several. The interquartile mean leaves
out the lowest and the highest quarter of the runs, so that a few that failed do not move it (Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021). Its interval [95 %] is of the
percentile bootstrap of {MANY} runs or more, drawn within task sets where several runs share each (strata)."""
TOGETHER = f"""so that all of them cover their means at once with {CONFIDENCE:.0%}, however they depend on each other
(below {MANY} runs by Bonferroni's inequality, each at the level 1 - {1 - CONFIDENCE:.2g} / their number; from {MANY} on
by the largest |t| of runs with the estimated correlations)."""


def tables(findings: Findings, points: Sequence[Point]) -> list[Table]:
    """All tables of a report, in the order in which they are read. points: those of `findings`."""
    known, measured = findings.catalogue, {point["metric"] for point in points}
    last = {point["condition"]: point["step"] for point in points}
    ending: Ending = {
        (p["condition"], p["metric"], p["split"], p["layer"]): p for p in points if p["step"] == last[p["condition"]]
    }
    by_layer = [m for m in shown(known, "tables", by_layer=True) if any(run.keys(m) for run in findings.runs)]
    baselines = partial(contrasts.baselines, findings)
    return [
        _what_was_run(findings),
        *_claims(findings),
        *chain.from_iterable((_by_layer(findings, ending, metric), *baselines(metric)) for metric in by_layer),
        *chain.from_iterable(baselines(metric) for metric in known.values() if metric not in by_layer),
        *(_map(findings, points, m) for m in shown(known, "map", by_layer=True) if m.key in measured),
        *_agreement(findings),
        _accuracy_and_loss(findings, ending),
        *contrasts.differences(findings),
        *_interquartile_means(findings, ending),
        *variance.tables(findings),
        _emergence(findings),
        *chain.from_iterable(contrasts.controls(findings, metric) for metric in by_layer),
        _metrics(findings),
        _environment(findings),
    ]


def _what_was_run(findings: Findings) -> Table:
    keys = list(dict.fromkeys(key for condition in findings.conditions for key in condition.settings))
    rows = []
    for name, condition in findings.named():
        minutes = fmean(run.status["wall_seconds"] / 60 for run in condition.runs)
        steps = "/".join(sorted({str(run.last["step"]) for run in condition.runs}))
        settings = [str(condition.settings.get(key, "-")) for key in keys]
        seeds = "; ".join(run.seed for run in condition.runs)
        rows.append([name, *settings, str(len(condition.runs)), seeds, steps, f"{minutes:.1f}"])
    columns = ["condition", *keys, "runs", "seeds", "steps", "minutes a run"]
    starts = sorted(start["time"] for run in findings.runs for start in run.status["starts"])
    end = max(str(run.last.get("time", starts[-1])) for run in findings.runs)
    begun, ended = (text(time[:16].replace("T", " ")) for time in (starts[0], end))
    hours = sum(run.status["wall_seconds"] for run in findings.runs) / 3600
    note = f"Begun {begun} UTC, last measured {ended} UTC; {hours:.2f} hours of runs."
    return Table("What was run", columns, rows, note + " Every other key is the same in all of a sweep's runs.")


def _claims(findings: Findings) -> list[Table]:
    """[] if no claim of any run is decided."""

    def value(run: Finished, name: str) -> float:
        return number(run.claim(name), "value")

    rows = []
    for name, claim in findings.claims.items():
        cells = []
        for condition in findings.conditions:
            passed = [run.claim(name).get("passed") for run in condition.runs]
            words = "holds in " if any(one is not None for one in passed) else ""
            mean = estimate(condition, partial(value, name=name), tuple(claim.get("range") or UNBOUNDED))
            cells.append(f"{as_text(mean)}, {words}{held(passed)}")
        rows.append([name, claim["paper"], f"{claim['relation']} {claim['threshold']}", *cells])
    columns = ["claim", "paper", "threshold", *findings.names]
    return [Table("The paper's claims", columns, rows, CLAIMS)] if rows else []


def _by_layer(findings: Findings, ending: Ending, metric: Metric) -> Table:
    baselines = [m for m in belonging(findings.catalogue, metric, "baseline") if m.by_layer]
    baselines = [m for m in baselines if any(run.keys(m) for run in findings.runs)]
    tested = belonging(findings.catalogue, metric, "p")
    several = any(len(condition.runs) >= FEWEST for condition in findings.conditions)
    rows = []
    for layer in range(max(len(run.keys(metric)) for run in findings.runs)):
        cells = []
        for name, condition in findings.named():
            point = ending.get((name, metric.key, "val", layer))
            cells.append(point_text(point))
            if several:
                cells.append(ends(interval_of(point, "_over_layers")) if point else "-")
            cells += [contrasts.largest_value(condition, tested, layer)] if tested else []
            cells += [point_text(ending.get((name, m.key, "val", layer))) for m in baselines]
        rows.append([str(layer), *cells])
    kinds = [
        "",
        *([", all layers"] if several else []),
        *([", p"] if tested else []),
        *(f", {m.where}" for m in baselines),
    ]
    columns = ["layer", *(f"{name}{kind}" for name in findings.names for kind in kinds)]
    note = "Validation, at the last step. Layer 0 is the embedding."
    note += f" All layers: the interval widened for the number of layers, {TOGETHER}" if several else ""
    note += f" {P_VALUES}" if tested else ""
    return Table(titled(f"{metric.name} by layer", metric), columns, rows, note)


def _map(findings: Findings, points: Sequence[Point], metric: Metric) -> Table:
    """The numbers of a map of layer and step, a row for each step."""
    chosen = [point for point in points if (point["metric"], point["split"]) == (metric.key, "val")]
    layers = range(max(point["layer"] for point in chosen) + 1)
    steps: dict[tuple[str, int], dict[int, str]] = {}
    for point in chosen:
        row = steps.setdefault((point["condition"], point["step"]), {})
        row[point["layer"]] = point_text(point, "_over_map")
    several = len(findings.names) > 1
    rows = [
        [*([name] if several else []), str(step), *(row.get(layer, "-") for layer in layers)]
        for (name, step), row in steps.items()
    ]
    columns = [*(["condition"] if several else []), "step", *(f"layer {layer}" for layer in layers)]
    counts = "; ".join(sorted({str(point["cells"]) for point in chosen}))
    note = f"Validation. Intervals are widened for the number of cells of a condition ({counts}), layers and steps, "
    return Table(titled(f"{metric.name} by layer and step", metric), columns, rows, note + TOGETHER)


def _agreement(findings: Findings) -> list[Table]:
    """A row for every two instruments; no table without instruments to compare."""
    columns = [(name, over) for name in findings.names for over in (ALL, LAST)]
    pairs: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for name, agreements in findings.agreements().items():
        for metric, other, over_, correlation in agreements:
            pairs.setdefault((metric, other), {})[name, over_] = as_text(correlation, 2)
    rows = [
        [*(findings.catalogue[key].title for key in pair), *(cells.get(column, "-") for column in columns)]
        for pair, cells in pairs.items()
    ]
    titles = ["instrument", "other", *map(", ".join, columns)]
    return [Table("Do the instruments agree?", titles, rows, AGREEMENT)] if rows else []


def _accuracy_and_loss(findings: Findings, ending: Ending) -> Table:
    known = shown(findings.catalogue, "tables", by_layer=False)
    keys = [(metric.key, split) for metric in known for split in SPLITS]
    rows = [[name, *(point_text(ending.get((name, *key, None))) for key in keys)] for name in findings.names]
    columns = ["condition", *(f"{words} {metric.name}" for metric in known for words in SPLITS.values())]
    return Table("Accuracy and loss", columns, rows, "At the last step; accuracy of y, given I and x; loss in nats.")


def _interquartile_means(findings: Findings, ending: Ending) -> list[Table]:
    """The conditions with MANY runs or more; [] without any."""
    last = {key[:3]: point for key, point in ending.items() if point.get("iqm") is not None}  # in the last layer
    rows = []
    for name, condition in findings.named():
        n_strata = len({*strata([run.task_set for run in condition.runs], len(condition.runs)).tolist()})
        for metric in shown(findings.catalogue, "tables"):
            if point := last.get((name, metric.key, "val")):
                iqm = as_text(interval_of(point, statistic="iqm"))
                rows.append([name, metric.title, iqm, point_text(point), str(point["n"]), str(n_strata)])
    columns = ["condition", "metric", "interquartile mean", "mean", "runs", "strata"]
    return [Table("Interquartile means", columns, rows, INTERQUARTILE)] if rows else []


def _emergence(findings: Findings) -> Table:
    def later(run: Finished, metric: Metric) -> float:
        return run.emergence(metric) - run.emergence(ACCURACY)

    rows = []
    for name, condition in findings.named():
        last = float(max(run.last["step"] for run in condition.runs))
        for metric in shown(findings.catalogue, "tables"):
            if metric != ACCURACY and any(run.rises(metric) for run in condition.runs):
                steps = [
                    estimate(condition, partial(Finished.emergence, metric=m), (0, last)) for m in (ACCURACY, metric)
                ]
                difference = estimate(condition, partial(later, metric=metric), (-last, last))
                cells = [as_text(one, 0) for one in (*steps, difference)]
                rows.append([name, metric.title, *cells, _first(metric, difference)])
    columns = ["condition", "metric", "accuracy emerges", "metric emerges", "metric less accuracy", "first"]
    return Table("When accuracy and clusters emerge", columns, rows, EMERGENCE)


def _first(metric: Metric, later: Interval) -> str:
    """Which of accuracy and a metric emerges first, from the steps by which the metric is later."""
    if later.n < 2:
        return "one run cannot tell" if later.n else "-"
    if later.lower > 0:
        return ACCURACY.name
    return metric.name if later.upper < 0 else f"{later.n} runs cannot tell"


def _metrics(findings: Findings) -> Table:
    def bound(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    rows = [
        [m.key, m.title, m.position or "-", f"{bound(m.low)} to {bound(m.high)}", bound(m.chance)]
        for m in findings.catalogue.values()
    ]
    columns = ["key", "metric", "position", "range", "level of chance"]
    return Table("Metrics", columns, rows, "Every number of every run is in the table of numbers under its key.")


def _environment(findings: Findings) -> Table:
    facts: dict[str, Counter[str]] = {}
    for run in findings.runs:
        start = run.status["starts"][-1]
        for key, value in ({key: start[key] for key in MADE_WITH} | start["versions"]).items():
            facts.setdefault(key, Counter())[str(value)] += 1
    rows = []
    for key, values in facts.items():
        several = [f"{value} ({n} runs)" for value, n in values.most_common()]
        rows.append([key, "; ".join(several) if len(values) > 1 else next(iter(values))])
    resumed = sum(len(run.status["starts"]) > 1 for run in findings.runs)
    note = f"{resumed} of {len(findings.runs)} runs were interrupted and resumed."
    return Table("Environment", ["", ""], rows, note)
