"""The findings of a multirun as tables.

in:  Findings
out: Tables
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from statistics import fmean

from taskcluster.metrics import ACCURACY, Metric, belonging
from taskcluster.results import differences, interquartile, variance
from taskcluster.results.aggregate import Point
from taskcluster.results.bootstrap import MANY
from taskcluster.results.cells import (
    TOO_FEW,
    Table,
    as_text,
    at_the_end,
    claim_of,
    day,
    emerging,
    first_of,
    of_map,
    over,
    over_layers,
    shared,
    value_of,
)
from taskcluster.results.compared import P_VALUES, beside, by_chance, largest_p
from taskcluster.results.findings import Findings
from taskcluster.results.instruments import ALL, LAST
from taskcluster.results.statistics import CONFIDENCE, FEWEST, RISE, UNBOUNDED, components, interval
from taskcluster.runs.journal import SPLITS, fixed
from taskcluster.runs.verdicts import held
from taskcluster.views import shown

MADE_WITH = ("machine", "device", "threads")
EMERGENCE = f"""The step at which a curve has made half of its rise, on a line between measured steps: validation
accuracy, and the metric on validation, in the last layer where it has several. A curve that rises by less than {RISE}
does not emerge (-)."""
CLAIMS = """Claims of Wu and Varshney (NAACL Findings 2025) about the ARI of clusters and tasks at the separator; the
thresholds are ours. A claim is decided in runs in which what it is about has happened, such as a rise."""
CONTROLS = """Validation, last step. s.d. of repetitions: of the same measurement of the same states. s.d. of training:
over runs, less what repetitions add (variance components of one-way random effects: Searle, Casella and McCulloch,
1992; 0 where they explain it all)."""
AGREEMENT = """Spearman's rank correlation on validation, within each run over the layers and steps at which both were
measured, or over the layers of the last of these steps; mean and interval over runs by Fisher's z. All that grows with
training and depth agrees over layers and steps; the last step tells more."""
TOGETHER = f"""so that all of them cover their means at once with {CONFIDENCE:.0%}, however they depend on each other
(below {MANY} runs by Bonferroni's inequality, each at the level 1 - {1 - CONFIDENCE:.2g} / their number; from {MANY} on
by the largest |t| of runs with the estimated correlations)."""


def tables(found: Findings, points: Sequence[Point]) -> list[Table]:
    """All of a report, in the order in which they are read. points: those of `found`."""
    measured = {point["metric"] for point in points}
    by_layer = [m for m in shown(found.catalogue, "tables", by_layer=True) if any(run.keys(m) for run in found.runs)]
    mapped = [metric for metric in shown(found.catalogue, "map", by_layer=True) if metric.key in measured]
    return [
        _what_was_run(found),
        *_claims(found),
        *chain.from_iterable((_by_layer(found, points, metric), *beside(found, metric)) for metric in by_layer),
        *chain.from_iterable(beside(found, metric) for metric in found.catalogue.values() if metric not in by_layer),
        *(_by_layer_and_step(found, points, metric) for metric in mapped),
        *_agreement(found),
        _at_the_end(found),
        *differences.tables(found),
        *interquartile.tables(found, points),
        *variance.tables(found),
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
    note = f"Begun {day(begun[0])}, last measured {day(ended)}; {total:.2f} hours of runs."
    return Table("What was run", columns, rows, note + " Every other key is the same in all of a sweep's runs.")


def _made_with(found: Findings) -> Table:
    facts: dict[str, Counter[str]] = {}
    for run in found.runs:
        start = run.status["starts"][-1]
        for key, value in [(key, start[key]) for key in MADE_WITH] + list(start["versions"].items()):
            facts.setdefault(key, Counter())[str(value)] += 1
    resumed = sum(len(run.status["starts"]) > 1 for run in found.runs)
    rows = [[key, shared(values)] for key, values in facts.items()]
    return Table("Environment", ["", ""], rows, f"{resumed} of {len(found.runs)} runs were interrupted and resumed.")


def _claims(found: Findings) -> list[Table]:
    """[] where no claim of any run is decided."""
    rows = []
    for claim in found.claims.values():
        cells = []
        for condition in found.conditions:
            passed = [claim_of(run, claim["name"]).get("passed") for run in condition.runs]
            decided = any(one is not None for one in passed)
            within = tuple(claim.get("range") or UNBOUNDED)
            value = as_text(over(condition, value_of(claim["name"]), within))
            cells.append(f"{value}, {'holds in ' * decided}{held(passed)}")
        rows.append([claim["name"], claim["paper"], f"{claim['relation']} {claim['threshold']}", *cells])
    return [Table("The paper's claims", ["claim", "paper", "threshold", *found.names], rows, CLAIMS)] if rows else []


def _by_layer(found: Findings, points: Sequence[Point], metric: Metric) -> Table:
    together = {
        (point["condition"], point["layer"]): over_layers(point)
        for point in points  # of each condition the last step counts
        if (point["metric"], point["split"]) == (metric.key, "val")
    }
    deepest = max(len(run.keys(metric)) for run in found.runs)
    several = any(len(condition.runs) >= FEWEST for condition in found.conditions)
    tested = belonging(found.catalogue, metric, "p")
    baselines = [own for own in belonging(found.catalogue, metric, "baseline") if own.by_layer]
    baselines = [own for own in baselines if any(run.keys(own) for run in found.runs)]
    rows = []
    for layer in range(deepest):
        of_layer, cells = at_the_end(metric.at("val", layer)), []
        for name, condition in found.named():
            cells.append(as_text(over(condition, of_layer, metric.range)))
            if several:
                cells.append(together.get((name, layer), "-"))
            cells += [largest_p(condition, p.at("val", layer)) for p in tested]
            cells += [as_text(over(condition, at_the_end(own.at("val", layer)), own.range)) for own in baselines]
        rows.append([str(layer), *cells])
    note = "Validation, at the last step. Layer 0 is the embedding."
    widened = f" All layers: the interval widened for the number of layers, {TOGETHER}" if several else ""
    said = f" {P_VALUES}" if tested else ""
    kinds = ["", *([", all layers"] if several else []), *([", p"] if tested else [])]
    kinds += [f", {own.where}" for own in baselines]
    columns = [f"{name}{kind}" for name in found.names for kind in kinds]
    title = f"{metric.name} by layer, {metric.where}".rstrip(", ")
    return Table(title, ["layer", *columns], rows, note + widened + said)


def _by_layer_and_step(found: Findings, points: Sequence[Point], metric: Metric) -> Table:
    """The numbers of a map, a row for each step."""
    chosen = [point for point in points if (point["metric"], point["split"]) == (metric.key, "val")]
    deepest = max(point["layer"] for point in chosen)
    by_row: dict[tuple[str, int], dict[int, Point]] = {}
    for point in chosen:
        by_row.setdefault((point["condition"], point["step"]), {})[point["layer"]] = point
    rows = []
    for (name, step), of_layers in by_row.items():
        cells = [of_map(of_layers[layer]) if layer in of_layers else "-" for layer in range(deepest + 1)]
        rows.append([*([name] if len(found.names) > 1 else []), str(step), *cells])
    columns = [*(["condition"] if len(found.names) > 1 else []), "step", *(f"layer {k}" for k in range(deepest + 1))]
    counts = "; ".join(sorted({str(point["cells"]) for point in chosen}))
    note = f"Validation. Intervals are widened for the number of cells of a condition ({counts}), layers and steps, "
    title = f"{metric.name} by layer and step, {metric.where}".rstrip(", ")
    return Table(title, columns, rows, note + TOGETHER)


def _agreement(found: Findings) -> list[Table]:
    """A row for every two instruments; no table without instruments to compare."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    columns = [f"{name}, {over}" for name in found.names for over in (ALL, LAST)]
    for name, of_condition in found.agreements().items():
        for agreement in of_condition:
            pair = agreement.metric, agreement.other
            rows.setdefault(pair, {})[f"{name}, {agreement.over}"] = as_text(agreement.correlation, 2)
    cells = [
        [*(found.catalogue[key].title for key in pair), *(of_pair.get(column, "-") for column in columns)]
        for pair, of_pair in rows.items()
    ]
    return [Table("Do the instruments agree?", ["instrument", "other", *columns], cells, AGREEMENT)] if cells else []


def _at_the_end(found: Findings) -> Table:
    known = shown(found.catalogue, "tables", by_layer=False)
    keys = [(metric.stem(split), metric.range) for metric in known for split in SPLITS]
    rows = [[name, *(as_text(over(c, at_the_end(key), within)) for key, within in keys)] for name, c in found.named()]
    columns = ["condition", *(f"{words} {metric.name}" for metric in known for words in SPLITS.values())]
    return Table("Accuracy and loss", columns, rows, "At the last step; accuracy of y, given I and x; loss in nats.")


def _emergence(found: Findings) -> Table:
    rows = []
    for name, condition in found.named():
        for metric in shown(found.catalogue, "tables"):
            if metric != ACCURACY and any(run.rises(metric) for run in condition.runs):
                last = float(max(run.last["step"] for run in condition.runs))
                curves = emerging(metric)
                accuracy, own = (over(condition, curves[kind], (0, last)) for kind in ("accuracy", "metric"))
                later = over(condition, curves["later"], (-last, last))
                cells = [as_text(interval, 0) for interval in (accuracy, own, later)]
                rows.append([name, metric.title, *cells, first_of(metric, later)])
    columns = ["condition", "metric", "accuracy emerges", "metric emerges", "metric less accuracy", "first"]
    return Table("When accuracy and clusters emerge", columns, rows, EMERGENCE)


def _controls(found: Findings, metric: Metric) -> Table:
    rows = []
    for name, condition in found.named():
        noise = [run.controls(metric, "noise") for run in condition.runs]
        for layer in range(max(len(run.keys(metric)) for run in condition.runs)):
            repeated = [layers[layer] for layers in noise if layer < len(layers)]
            means, own, training = components(repeated)
            few = 0 < len(means) < FEWEST
            cells = [as_text(interval(means, metric.range)), fixed(own), TOO_FEW if few else fixed(training)]
            rows.append([name, str(layer), *cells, *by_chance(found.catalogue, condition, metric, layer)])
    columns = ["condition", "layer", f"{metric.name}, mean of repetitions", "s.d. of repetitions", "s.d. of training"]
    columns += ["chance: mean", "chance: largest"]
    of_metric = [control for control in found.catalogue.values() if control.of == metric.key]
    said = {"noise": "Repetitions", "chance": "Chance"}
    named = (
        f" {words}: {', '.join(f'{metric.name} {control.where}' for control in of_metric if control.kind == kind)}."
        for kind, words in said.items()
        if any(control.kind == kind for control in of_metric)
    )
    title = f"Controls of the {metric.name}, {metric.where}".rstrip(", ")
    return Table(title, columns, rows, CONTROLS + "".join(named))


def _metrics(found: Findings) -> Table:
    def bound(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    rows = [
        [m.key, m.title, m.position or "-", f"{bound(m.low)} to {bound(m.high)}", bound(m.chance)]
        for m in found.catalogue.values()
    ]
    columns = ["key", "metric", "position", "range", "level of chance"]
    return Table("Metrics", columns, rows, "Every number of every run is in the table of numbers under its key.")
