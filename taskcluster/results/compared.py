"""What metrics are compared with, as tables and cells: baselines, other labels, chance.

in:  Findings, a metric
out: a table of its baselines and nuisance labels; cells of p values and of chance; a sentence for one run
"""

import math
from functools import partial
from statistics import fmean

from taskcluster.metrics import Catalogue, Metric, belonging
from taskcluster.results.aggregate import Condition
from taskcluster.results.cells import Table, as_text, last_of, over
from taskcluster.results.findings import Findings, Finished
from taskcluster.runs.journal import Row, fixed, layers_of, number

P_VALUES = """p: the largest over runs, of a permutation test of each run (Phipson and Smyth, 2010): how often the same
clusters fit shuffled tasks as well."""
BESIDE = """Validation, last step, last layer where there are several. Baselines are clusters of the texts of
prompts, and of the states of the same network with random weights, whose other layers are in the table by layer;
against other labels the clusters are the same as against the task."""


def beside(found: Findings, metric: Metric) -> list[Table]:
    """The table of what a metric is compared with, a row each; [] without any."""
    others = [
        *((other, f"baseline: {other.where}") for other in belonging(found.catalogue, metric, "baseline")),
        *((other, f"against the {other.where}") for other in belonging(found.catalogue, metric, "nuisance")),
    ]
    measured = [(m, words) for m, words in others if any(run.keys(m) for run in found.runs)]
    if not measured:
        return []
    rows = [
        [words, *(as_text(over(condition, partial(last_of, metric=own), own.range)) for condition in found.conditions)]
        for own, words in [(metric, "against the task"), *measured]
    ]
    title = f"Baselines and nuisance labels of the {metric.name}, {metric.where}".rstrip(", ")
    return [Table(title, ["", *found.names], rows, BESIDE)]


def highest_beside(row: Row, known: Catalogue, metric: Metric) -> str:
    """The highest value over layers in a line of the journal, with the baselines of that layer and the highest value of
    those that have layers; "" without baselines."""
    measured = [own for own in belonging(known, metric, "baseline") if own.at("val", 0) in row]
    if not measured:
        return ""
    value, layer = _highest(row, metric)
    said = []
    for own in measured:
        most, at = _highest(row, own) if own.by_layer else (math.nan, layer)
        elsewhere = f", highest {fixed(most, 2)} at layer {at}" if at != layer else ""
        said.append(f"{own.where} {fixed(number(row, own.at('val', layer)), 2)}{elsewhere}")
    return f"{metric.title}, highest: {fixed(value, 2)} at layer {layer} ({'; '.join(said)})"


def _highest(row: Row, metric: Metric) -> tuple[float, int]:
    """The highest value over layers, and the first layer that has it."""
    values = layers_of(row, metric.stem("val"))
    layer = max(range(len(values)), key=lambda layer: (math.isfinite(values[layer]), values[layer]))
    return values[layer], layer


def largest_p(condition: Condition[Finished], key: str) -> str:
    return fixed(max(_finite(condition, key), default=None))


def by_chance(known: Catalogue, condition: Condition[Finished], metric: Metric, layer: int) -> list[str]:
    """Mean and largest of the ARI of shuffled labels in a layer, over runs."""
    means, most = (
        [value for own in belonging(known, metric, kind) for value in _finite(condition, own.at("val", layer))]
        for kind in ("chance", "largest")
    )
    return [fixed(fmean(means) if means else None), fixed(max(most, default=None))]


def _finite(condition: Condition[Finished], key: str) -> list[float]:
    values = (number(run.last, key) for run in condition.runs)
    return [value for value in values if math.isfinite(value)]
