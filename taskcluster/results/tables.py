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
from taskcluster.results import contrasts
from taskcluster.results.cells import Table, as_text, ends, estimate, interval_of, point_text, titled
from taskcluster.results.claims import RISE, held
from taskcluster.results.conditions import Condition
from taskcluster.results.correlations import ALL, LAST
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import CONFIDENCE, FEWEST, UNBOUNDED, Interval, Range
from taskcluster.results.points import Point
from taskcluster.runs.journal import SPLITS, number
from taskcluster.runs.records import text
from taskcluster.views import shown

Ending = Mapping[tuple[str, str, str, int | None], Point]  # points of the last step by condition, metric, split, layer

MADE_WITH = ("machine", "device", "threads")
P_VALUES = """p: the largest over runs, from a permutation test in each run (Phipson and Smyth, 2010): how often the
same clusters match shuffled task labels equally well."""
EMERGENCE = f"""The step at which a curve reaches half of its rise, interpolated between measured steps: validation
accuracy, and the metric on validation (last layer of metrics with several layers). A curve that rises by less than
{RISE} does not emerge (-)."""
CLAIMS = """Claims of Wu and Varshney (NAACL Findings 2025) about the ARI of clusters and tasks at the separator; the
thresholds are ours. A claim is decided only in runs in which its precondition, such as a rise, is met."""
AGREEMENT = """Spearman's rank correlation on validation, within each run over the layers and steps at which both
were measured, or over the layers of the last of these steps; mean and interval over runs by Fisher's z. Over layers
and steps, any two metrics that grow with training and depth correlate; the last step is more informative."""
TOGETHER = f"""so that all intervals cover their means at once with {CONFIDENCE:.0%}, under any dependence
(Bonferroni's inequality: each is at the level 1 - {1 - CONFIDENCE:.2g} / their number)."""


def tables(findings: Findings, points: Sequence[Point]) -> list[Table]:
    """All tables of a report, in the order in which they are read. points: those of `findings`."""
    known, measured = findings.catalogue, {point["metric"] for point in points}
    last = {point["condition"]: point["step"] for point in points}
    ending: Ending = {
        (p["condition"], p["metric"], p["split"], p["layer"]): p for p in points if p["step"] == last[p["condition"]]
    }
    by_layer = [m for m in shown(known, "tables", by_layer=True) if findings.measured(m)]
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
        _emergence(findings),
        *chain.from_iterable(contrasts.controls(findings, metric) for metric in by_layer),
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
    starts = [start["time"] for run in findings.runs for start in run.status["starts"]]
    ends = (str(run.last.get("time", max(starts))) for run in findings.runs)
    begun, ended = (text(time[:16].replace("T", " ")) for time in (min(starts), max(ends)))
    hours = sum(run.status["wall_seconds"] for run in findings.runs) / 3600
    columns = ["condition", *keys, "runs", "seeds", "steps", "minutes a run"]
    note = f"Started {begun} UTC, last measured {ended} UTC; {hours:.2f} hours of runs."
    return Table("What was run", columns, rows, note + " All other keys are the same in all runs of a sweep.")


def _claims(findings: Findings) -> list[Table]:
    """[] if no claim of any run is decided."""

    def cell(condition: Condition[Finished], name: str, within: Range) -> str:
        passed = [run.claim(name).get("passed") for run in condition.runs]
        words = "holds in " if any(one is not None for one in passed) else ""
        mean = estimate(condition, lambda run: number(run.claim(name), "value"), within)
        return f"{as_text(mean)}, {words}{held(passed)}"

    rows = [
        [
            name,
            claim["paper"],
            f"{claim['relation']} {claim['threshold']}",
            *(cell(condition, name, tuple(claim.get("range") or UNBOUNDED)) for condition in findings.conditions),
        ]
        for name, claim in findings.claims.items()
    ]
    columns = ["claim", "paper", "threshold", *findings.names]
    return [Table("The paper's claims", columns, rows, CLAIMS)] if rows else []


def _by_layer(findings: Findings, ending: Ending, metric: Metric) -> Table:
    baselines = [m for m in belonging(findings.catalogue, metric, "baseline") if m.by_layer and findings.measured(m)]
    tested = belonging(findings.catalogue, metric, "p")
    several = any(len(condition.runs) >= FEWEST for condition in findings.conditions)
    rows = []
    for layer in range(max(len(run.keys(metric)) for run in findings.runs)):
        cells = [str(layer)]
        for name, condition in findings.named():
            point, *beside = (ending.get((name, m.key, "val", layer)) for m in (metric, *baselines))
            together = ends(interval_of(point, "_over_layers")) if point else "-"
            cells += [point_text(point), *([together] if several else [])]
            cells += [contrasts.largest_value(condition, tested, layer)] if tested else []
            cells += map(point_text, beside)
        rows.append(cells)
    kinds = ["", *([", all layers"] if several else []), *([", p"] if tested else [])]
    kinds += [f", {m.where}" for m in baselines]
    columns = ["layer", *(f"{name}{kind}" for name in findings.names for kind in kinds)]
    note = "Validation, at the last step. Layer 0 is the embedding."
    note += f" All layers: the interval widened for the number of layers, {TOGETHER}" if several else ""
    note += f" {P_VALUES}" if tested else ""
    return Table(titled(f"{metric.name} by layer", metric), columns, rows, note)


def _map(findings: Findings, points: Sequence[Point], metric: Metric) -> Table:
    """The numbers of a map of layer and step, a row for each step of a condition."""
    chosen = [point for point in points if (point["metric"], point["split"]) == (metric.key, "val")]
    cells = {(p["condition"], p["step"], p["layer"]): point_text(p, "_over_map") for p in chosen}
    layers = range(max(point["layer"] for point in chosen) + 1)
    rows = [
        [name, str(step), *(cells.get((name, step, layer), "-") for layer in layers)]
        for name, step in dict.fromkeys((point["condition"], point["step"]) for point in chosen)
    ]
    counts = "; ".join(sorted({str(point["cells"]) for point in chosen}))
    note = f"Validation. Intervals are widened for the number of cells of a condition ({counts}), layers and steps, "
    columns = ["condition", "step", *(f"layer {layer}" for layer in layers)]
    return Table(titled(f"{metric.name} by layer and step", metric), columns, rows, note + TOGETHER)


def _agreement(findings: Findings) -> list[Table]:
    """A row for every two instruments; no table without instruments to compare."""
    columns = [(name, over) for name in findings.names for over in (ALL, LAST)]
    cells = {
        (one, other, name, over): as_text(correlation, 2)
        for name, agreements in findings.agreements().items()
        for one, other, over, correlation in agreements
    }
    rows = [
        [*(findings.catalogue[key].title for key in pair), *(cells.get((*pair, *column), "-") for column in columns)]
        for pair in dict.fromkeys(key[:2] for key in cells)
    ]
    titles = ["instrument", "other", *map(", ".join, columns)]
    return [Table("Do the instruments agree?", titles, rows, AGREEMENT)] if rows else []


def _accuracy_and_loss(findings: Findings, ending: Ending) -> Table:
    known = shown(findings.catalogue, "tables", by_layer=False)
    keys = [(metric.key, split) for metric in known for split in SPLITS]
    rows = [[name, *(point_text(ending.get((name, *key, None))) for key in keys)] for name in findings.names]
    columns = ["condition", *(f"{words} {metric.name}" for metric in known for words in SPLITS.values())]
    return Table("Accuracy and loss", columns, rows, "At the last step; accuracy of y, given I and x; loss in nats.")


def _emergence(findings: Findings) -> Table:
    rows = [
        _emergence_row(name, condition, metric)
        for name, condition in findings.named()
        for metric in shown(findings.catalogue, "tables")
        if metric != ACCURACY and any(run.rises(metric) for run in condition.runs)
    ]
    columns = ["condition", "metric", "accuracy emerges", "metric emerges", "metric less accuracy", "first"]
    return Table("When accuracy and clusters emerge", columns, rows, EMERGENCE)


def _emergence_row(name: str, condition: Condition[Finished], metric: Metric) -> list[str]:
    last = float(max(run.last["step"] for run in condition.runs))
    steps = [estimate(condition, partial(Finished.emergence, metric=m), (0, last)) for m in (ACCURACY, metric)]
    later = estimate(condition, lambda run: run.emergence(metric) - run.emergence(ACCURACY), (-last, last))
    return [name, metric.title, *(as_text(one, 0) for one in (*steps, later)), _first(metric, later)]


def _first(metric: Metric, later: Interval) -> str:
    """Which of accuracy and a metric emerges first, from the steps by which the metric is later."""
    if later.n < 2:
        return "one run cannot tell" if later.n else "-"
    if later.lower > 0:
        return ACCURACY.name
    return metric.name if later.upper < 0 else f"{later.n} runs cannot tell"


def _environment(findings: Findings) -> Table:
    starts = [run.status["starts"][-1] for run in findings.runs]
    facts = [{key: start[key] for key in MADE_WITH} | start["versions"] for start in starts]
    rows = []
    for key in dict.fromkeys(key for made_with in facts for key in made_with):
        values = Counter(str(made_with[key]) for made_with in facts if key in made_with)
        several = [f"{value} ({n} runs)" for value, n in values.most_common()]
        rows.append([key, "; ".join(several if len(values) > 1 else values)])
    resumed = sum(len(run.status["starts"]) > 1 for run in findings.runs)
    note = f"{resumed} of {len(findings.runs)} runs were interrupted and resumed."
    return Table("Environment", ["", ""], rows, note)
