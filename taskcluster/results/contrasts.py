"""Tables that compare metrics with other conditions, baselines, other labels, chance and repetitions.

in:  Findings, a metric
out: Tables, cells of p values, and a sentence about one run

Conditions are compared on the same seeds. A seed draws the same tasks, initial weights and batches in every condition
that has them, so what two conditions share by their seeds cancels in the difference, and its interval is shorter than
those of the two means suggest.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean, variance
from typing import NamedTuple

from taskcluster.metrics import Catalogue, Metric, belonging
from taskcluster.results.cells import TOO_FEW, Table, as_text, ends, estimate, last_of, titled
from taskcluster.results.conditions import Condition, usual
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import FEWEST, Interval, interval, interval_of_each
from taskcluster.runs.journal import Row, fixed, layers_of, number
from taskcluster.views import shown

BASELINES = """Validation, last step; last layer of metrics with several layers. Baselines cluster the texts of the
prompts, and the states of the same network with random weights, whose other layers are in the table by layer.
Comparisons with other labels use the same clusters as those with the task."""
CONTROLS = """Validation, last step. s.d. of repetitions: the same states measured again. s.d. of training: over
runs, minus what repetitions explain (variance components of one-way random effects: Searle, Casella and McCulloch,
1992; 0 where they explain all of it)."""

DIFFERENCE_STEPS = "steps"  # the unit of differences in emergence
AT_THE_END = "Validation, last step; last layer of metrics with several layers. "
STEPS_OF_EMERGENCE = """Optimizer updates. Negative: the condition's curve reaches half of its rise earlier (see when
accuracy and clusters emerge). Only seeds for which both curves rise. """
DIFFERENCES = """Mean of condition minus reference over the seeds that both have [95 % interval]. The reference is
the condition with the most frequent settings of the sweep, the first of equals. All comparisons: the interval at the
level 1 - 0.05 / {count}, so that the {count} of this table cover their differences at once with 95 % (Bonferroni's
inequality)."""


class Difference(NamedTuple):
    """The difference of a metric between a condition and its reference, over the seeds that both have. alone, together:
    its mean with the interval by itself, and with that of all comparisons; unit: "" or DIFFERENCE_STEPS."""

    condition: str
    reference: str
    metric: Metric
    alone: Interval
    together: Interval
    unit: str = ""


def differences(findings: Findings) -> list[Table]:
    """The tables of differences between conditions of a sweep on the same seeds: of metrics at the last step, and of
    the steps at which they emerge; [] if no two conditions share seeds."""
    columns = ["condition", "reference", "metric", "difference", "all comparisons", "pairs"]
    tables = []
    for title, emergence in (("Differences between conditions", False), ("Differences in emergence", True)):
        pairs, digits = paired(findings, emergence), 0 if emergence else 3
        count = sum(pair.alone.n >= FEWEST for pair in pairs)
        rows = [
            [
                p.condition,
                p.reference,
                p.metric.title,
                as_text(p.alone, digits),
                ends(p.together, digits),
                str(p.alone.n),
            ]
            for p in pairs
        ]
        note = (STEPS_OF_EMERGENCE if emergence else AT_THE_END) + DIFFERENCES.format(count=count)
        tables += [Table(title, columns, rows, note)] if rows else []
    return tables


def paired(findings: Findings, emergence: bool = False, metrics: Sequence[Metric] | None = None) -> list[Difference]:
    """The differences of a table, or of these metrics alone. emergence: of the steps at which metrics emerge, in runs
    in which they do."""
    metrics = shown(findings.catalogue, "tables") if metrics is None else metrics
    chosen = [metric for metric in metrics if metric.emerges or not emergence]
    pairs = [pair for pair in _pairs(findings, Finished.emergence if emergence else last_of, chosen) if pair[2]]
    count = max(sum(len(values) >= FEWEST for *_, values in pairs), 1)
    last = float(max(run.last["step"] for run in findings.runs))
    ends = [(0.0, last) if emergence else metric.range for _, metric, _ in pairs]
    samples = [[value for value, _ in values] for *_, values in pairs]
    task_sets = [[task_set for _, task_set in values] for *_, values in pairs]
    within = [(low - high, high - low) for low, high in ends]
    alone, together = (interval_of_each(samples, within, cells, task_sets) for cells in (1, count))
    unit = DIFFERENCE_STEPS if emergence else ""
    return [
        Difference(*names, metric, one, all_at_once, unit)
        for (names, metric, _), one, all_at_once in zip(pairs, alone, together, strict=True)
    ]


def decided(one: Difference) -> bool:
    """Whether the sign of a difference is decided among all comparisons of its table."""
    return one.together.sd > 0 and (one.together.lower > 0 or one.together.upper < 0)


def reference(conditions: Sequence[Condition[Finished]]) -> Condition[Finished]:
    """The condition of a sweep with which the others are compared."""
    settings = [condition.settings for condition in conditions]
    common = {key: usual(key, settings) for key in settings[0]}
    return max(conditions, key=lambda one: sum(one.settings[key] == value for key, value in common.items()))


def _pairs(
    findings: Findings, value: Callable[[Finished, Metric], float], metrics: Sequence[Metric]
) -> Iterator[tuple[tuple[str, str], Metric, list[tuple[float, str]]]]:
    """The names of a condition and its reference, a metric, and its differences, each with its task set."""
    for sweep in dict.fromkeys(condition.sweep for condition in findings.conditions):
        named = {c.key: (name, c) for name, c in findings.named() if c.sweep == sweep}
        base_name, base = named.pop(reference([condition for _, condition in named.values()]).key)
        by_seed = {run.seed: run for run in base.runs}
        for name, condition in named.values():
            runs = [(run, by_seed[run.seed]) for run in condition.runs if run.seed in by_seed]
            for metric in metrics:
                values = [(value(run, metric) - value(other, metric), run.task_set) for run, other in runs]
                yield (name, base_name), metric, [pair for pair in values if math.isfinite(pair[0])]


def baselines(findings: Findings, metric: Metric) -> list[Table]:
    """The table of a metric's baselines and nuisance labels, a row each; [] without any."""
    others = [(m, f"baseline: {m.where}") for m in belonging(findings.catalogue, metric, "baseline")]
    others += [(m, f"against the {m.where}") for m in belonging(findings.catalogue, metric, "nuisance")]
    measured = [(m, words) for m, words in others if findings.measured(m)]
    rows = [
        [
            words,
            *(as_text(estimate(condition, partial(last_of, metric=m), m.range)) for condition in findings.conditions),
        ]
        for m, words in [(metric, "against the task"), *measured]
    ]
    title = titled(f"Baselines and nuisance labels of the {metric.name}", metric)
    return [Table(title, ["", *findings.names], rows, BASELINES)] if measured else []


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
    noise, means, largest = (belonging(findings.catalogue, metric, kind) for kind in ("noise", "chance", "largest"))
    rows = []
    for name, condition in findings.named():
        repeated = [run.repetitions(metric) for run in condition.runs]
        for layer in range(max(len(run.keys(metric)) for run in condition.runs)):
            of_runs, sd, training = one_way_components([layers[layer] for layers in repeated if layer < len(layers)])
            cells = [as_text(interval(of_runs, metric.range)), fixed(sd)]
            cells += [TOO_FEW if 0 < len(of_runs) < FEWEST else fixed(training)]
            chance = _finite(condition, means, layer)
            cells += [fixed(fmean(chance) if chance else None), largest_value(condition, largest, layer)]
            rows.append([name, str(layer), *cells])
    columns = ["condition", "layer", f"{metric.name}, mean of repetitions", "s.d. of repetitions", "s.d. of training"]
    columns += ["chance: mean", "chance: largest"]
    note = CONTROLS
    for words, metrics in (("Repetitions", noise), ("Chance", means)):
        note += f" {words}: {', '.join(m.title for m in metrics)}." if metrics else ""
    return [Table(titled(f"Controls of the {metric.name}", metric), columns, rows, note)]


def one_way_components(repeated: Sequence[Sequence[float]]) -> tuple[list[float], float, float]:
    """For each run's repetitions: the runs' means, the s.d. within runs and that between them beyond it; NaN without
    two repetitions, or FEWEST runs, to estimate them from.
    """
    groups = [values for values in repeated if len(values) > 1]
    means = [fmean(values) for values in groups]
    within = fmean(variance(values) for values in groups) if groups else math.nan
    if len(groups) < FEWEST:
        return means, math.sqrt(within), math.nan
    between = variance(means) - within * fmean(1 / len(values) for values in groups)
    return means, math.sqrt(within), math.sqrt(max(between, 0.0))


def largest_value(condition: Condition[Finished], metrics: Sequence[Metric], layer: int) -> str:
    return fixed(max(_finite(condition, metrics, layer), default=None))


def _finite(condition: Condition[Finished], metrics: Sequence[Metric], layer: int) -> list[float]:
    """All defined values of metrics in a layer, over runs."""
    values = (number(run.last, metric.at("val", layer)) for metric in metrics for run in condition.runs)
    return [value for value in values if math.isfinite(value)]
