"""Summarize a run or a report in sentences: the setup and the outcome. Free of torch.

in:  a run's configuration; its journal and catalogue; the Findings of a folder
out: sentences with which a page begins
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from taskcluster.metrics import Catalogue, Metric, View
from taskcluster.results.cells import as_text, estimate_each, last_of
from taskcluster.results.conditions import short_names
from taskcluster.results.contrasts import DIFFERENCE_STEPS, Difference, decided, paired
from taskcluster.results.findings import Findings
from taskcluster.runs.journal import Row, fixed, values_of
from taskcluster.views import shown

MOST_NAMED = 4  # conditions or differences in a sentence
VIEWS: tuple[View, ...] = ("runs", "layers", "tables")  # splits in which metrics by layer are searched
MOST_METRICS = 3  # that sentences are about


def asked(config: Mapping[str, Any], last_step: int) -> str:
    """Describe the model, the tasks and the measures of a run."""
    parts = {key: config.get(key) or {} for key in ("model", "task", "measures")}
    model, task = parts["model"], parts["task"]
    sizes = [f"{model[key]} {word}" for key, word in (("n_layer", "layers"), ("n_embd", "wide")) if model.get(key)]
    name = _last_part(model.get("path")) or _last_part(model.get("_target_"), ".") or "not recorded"
    kind = str(task.get("_target_", "")).split(".")[-2:][0] or "not recorded"
    kind += f" from {_last_part(task['path'])}" if task.get("path") else ""
    kind = f"{task['n_tasks']} ({kind})" if task.get("n_tasks") else kind
    measures = ", ".join(key.replace("_", " ") for key, measure in parts["measures"].items() if measure)
    trained = f"{last_step} updates" if last_step else "no training"
    in_brackets = f" ({', '.join(sizes)})" if sizes else ""
    return f"Model: {name}{in_brackets}, {trained}. Tasks: {kind}. Measures: {measures or 'not recorded'}."


def answer(rows: Sequence[Row], known: Catalogue) -> list[str]:
    """Summarize the end of a run on validation: a sentence for each main metric."""
    last, sentences = rows[-1], []
    for metric in _main(known, [last]):
        values = values_of(last, metric)
        highest = max((value for value in values if math.isfinite(value)), default=math.nan)
        said = f"{metric.title[:1].upper()}{metric.title[1:]}: {fixed(values[-1], 2)}"
        if metric.by_layer:
            at = values.index(highest) if highest in values else len(values) - 1
            other = f"highest {fixed(highest, 2)} at layer {at}" if values[at] != values[-1] else "the highest"
            said += f" in the last layer, {other}" if highest in values else " in the last layer"
        sentences.append(said + ("" if metric.chance is None else f" (chance {metric.chance:g})") + ".")
    return sentences


def compared(findings: Findings) -> list[str]:
    """Summarize the end of the runs of every condition, and which differences between conditions are decided."""
    main = _main(findings.catalogue, [run.last for run in findings.runs])
    sentences, names = [], short_names(findings.names)
    for metric in main[:1] if len(names) > 1 else main:
        column = partial(last_of, metric=metric)
        means = zip(names, estimate_each(findings.conditions, column, metric.range), strict=True)
        measured = sorted((pair for pair in means if pair[1].n), key=lambda pair: -pair[1].mean)
        named = [f"{name}: {as_text(one, 2)}" if len(names) > 1 else as_text(one, 2) for name, one in measured]
        if len(named) > MOST_NAMED:
            named = [f"highest with {named[0]}", f"lowest with {named[-1]}"]
        where = ", last layer" if metric.by_layer else ""
        sentences.append(f"{metric.title}{where} \N{EN DASH} {'; '.join(named)}.")
    return sentences + ([*_differences(findings, main)] if len(names) > 1 else [])


def _differences(findings: Findings, main: Sequence[Metric]) -> Iterator[str]:
    """Return the main metrics' differences whose sign is decided when all are compared at once."""
    found = paired(findings, metrics=main) + paired(findings, emergence=True, metrics=main)
    certain = [one for one in found if decided(one)]
    if certain:
        more = f"; and {len(certain) - MOST_NAMED} more" if len(certain) > MOST_NAMED else ""
        short = dict(zip(findings.names, short_names(findings.names), strict=True))
        said = [_in_words(one, short) for one in certain[:MOST_NAMED]]
        yield f"On the same seeds \N{EN DASH} {'; '.join(said)}{more}."
    elif found:
        yield "These runs do not decide any difference between conditions (paired by seed)."
    else:
        yield "The conditions share no seed, so their differences cannot be paired."


def _in_words(one: Difference, short: Mapping[str, str]) -> str:
    two = f"{short[one.condition]} against {short[one.reference]}"
    if one.unit != DIFFERENCE_STEPS:
        return f"{two}: {one.metric.title} {'+' if one.alone.mean > 0 else ''}{as_text(one.alone, 2)}"
    later = "later" if one.alone.mean > 0 else "earlier"
    least, most = sorted(abs(end) for end in (one.alone.lower, one.alone.upper))
    return f"{two}: {one.metric.title} emerges {abs(one.alone.mean):.0f} [{least:.0f}, {most:.0f}] steps {later}"


def _main(known: Catalogue, rows: Sequence[Row]) -> list[Metric]:
    """Return the main metrics among those measured."""
    chosen: dict[str, Metric] = {}
    for view in VIEWS:
        if not any(metric.by_layer for metric in chosen.values()):
            chosen |= {metric.key: metric for metric in shown(known, view) if _measured(metric, rows)}
    return sorted(chosen.values(), key=lambda metric: not metric.by_layer)[:MOST_METRICS]


def _measured(metric: Metric, rows: Sequence[Row]) -> bool:
    return any((metric.at("val", 0) if metric.by_layer else metric.stem("val")) in row for row in rows)


def _last_part(path: Any, separator: str = "/") -> str:
    return str(path or "").rstrip(separator).split(separator)[-1]
