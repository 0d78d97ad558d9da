"""What metrics are compared with, as tables and cells: baselines, other labels, chance, repeated measurements.

in:  Findings, a metric
out: Tables, cells of p values, and a sentence about one run
"""

import math
from functools import partial
from statistics import fmean

from taskcluster.metrics import Catalogue, Metric, belonging
from taskcluster.results.cells import TOO_FEW, Table, as_text, last_of, over, titled
from taskcluster.results.conditions import Condition
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import FEWEST, interval
from taskcluster.results.variance import one_way_components
from taskcluster.runs.journal import Row, fixed, layers_of, number

BASELINES = """Validation, last step, last layer where there are several. Baselines are clusters of the texts of
prompts, and of the states of the same network with random weights, whose other layers are in the table by layer;
against other labels the clusters are the same as against the task."""
CONTROLS = """Validation, last step. s.d. of repetitions: of the same measurement of the same states. s.d. of training:
over runs, less what repetitions add (variance components of one-way random effects: Searle, Casella and McCulloch,
1992; 0 where they explain it all)."""


def baselines(findings: Findings, metric: Metric) -> list[Table]:
    """The table of a metric's baselines and nuisance labels, a row each; [] without any."""
    others = [(m, f"baseline: {m.where}") for m in belonging(findings.catalogue, metric, "baseline")]
    others += [(m, f"against the {m.where}") for m in belonging(findings.catalogue, metric, "nuisance")]
    measured = [(m, words) for m, words in others if any(run.keys(m) for run in findings.runs)]
    if not measured:
        return []
    rows = [
        [words, *(as_text(over(condition, partial(last_of, metric=m), m.range)) for condition in findings.conditions)]
        for m, words in [(metric, "against the task"), *measured]
    ]
    title = titled(f"Baselines and nuisance labels of the {metric.name}", metric)
    return [Table(title, ["", *findings.names], rows, BASELINES)]


def highest_beside(row: Row, known: Catalogue, metric: Metric) -> str:
    """The highest value over layers in a line of the journal, with the baselines of that layer and the highest value of
    those that have layers; "" without baselines."""
    measured = [m for m in belonging(known, metric, "baseline") if m.at("val", 0) in row]
    if not measured:
        return ""
    value, layer = _highest(row, metric)
    said = []
    for m in measured:
        most, at = _highest(row, m) if m.by_layer else (math.nan, layer)
        elsewhere = f", highest {fixed(most, 2)} at layer {at}" if at != layer else ""
        said.append(f"{m.where} {fixed(number(row, m.at('val', layer)), 2)}{elsewhere}")
    return f"{metric.title}, highest: {fixed(value, 2)} at layer {layer} ({'; '.join(said)})"


def _highest(row: Row, metric: Metric) -> tuple[float, int]:
    """The highest value over layers, and the first layer that has it."""
    values = layers_of(row, metric.stem("val"))
    layer = max(range(len(values)), key=lambda layer: (math.isfinite(values[layer]), values[layer]))
    return values[layer], layer


def controls(findings: Findings, metric: Metric) -> list[Table]:
    """The table of a metric's repeated measurements and chance, by layer; [] without repetitions."""
    if not any(run.repetitions(metric) for run in findings.runs):
        return []
    means, largest = (belonging(findings.catalogue, metric, kind) for kind in ("chance", "largest"))
    rows = []
    for name, condition in findings.named():
        repeated = [run.repetitions(metric) for run in condition.runs]
        for layer in range(max(len(run.keys(metric)) for run in condition.runs)):
            of_runs, sd, training = one_way_components([layers[layer] for layers in repeated if layer < len(layers)])
            few = 0 < len(of_runs) < FEWEST
            cells = [as_text(interval(of_runs, metric.range)), fixed(sd), TOO_FEW if few else fixed(training)]
            chance = [value for m in means for value in _finite(condition, m.at("val", layer))]
            most = [value for m in largest for value in _finite(condition, m.at("val", layer))]
            cells += [fixed(fmean(chance) if chance else None), fixed(max(most, default=None))]
            rows.append([name, str(layer), *cells])
    columns = ["condition", "layer", f"{metric.name}, mean of repetitions", "s.d. of repetitions", "s.d. of training"]
    columns += ["chance: mean", "chance: largest"]
    note = CONTROLS
    for kind, words in (("noise", "Repetitions"), ("chance", "Chance")):
        of_kind = [m for m in findings.catalogue.values() if (m.of, m.kind) == (metric.key, kind)]
        note += f" {words}: {', '.join(f'{metric.name} {m.where}' for m in of_kind)}." if of_kind else ""
    return [Table(titled(f"Controls of the {metric.name}", metric), columns, rows, note)]


def largest_p(condition: Condition[Finished], key: str) -> str:
    return fixed(max(_finite(condition, key), default=None))


def _finite(condition: Condition[Finished], key: str) -> list[float]:
    values = (number(run.last, key) for run in condition.runs)
    return [value for value in values if math.isfinite(value)]
