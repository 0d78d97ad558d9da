"""Every number of every run, and every interval, as data frames with one type for each column.

in:  Findings
out: data frames. Keys of the configuration in which the runs differ are columns too, each of its own type: swept keys
     such as model.n_layer beside the condition, seeds that are set separately such as seeds.kmeans beside the seed
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars

from taskcluster.results.conditions import differing_keys
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.points import FAMILIES, Layout, cells, estimates, matrices, measured, metric_keys
from taskcluster.runs.condition import decisive, flatten, separate_seeds
from taskcluster.runs.journal import parse
from taskcluster.views import shown

Schema = Mapping[str, type[polars.DataType]]
Quantity = tuple[str, str | None, int | None, int | None, int | None]  # QUANTITY

NUMBERS: Schema = {
    "step": polars.Int64,
    "metric": polars.String,
    "split": polars.String,
    "layer": polars.Int64,
    "other_layer": polars.Int64,
    "repetition": polars.Int64,
    "value": polars.Float64,
}
QUANTITY = ("metric", "split", "layer", "other_layer", "repetition")
AT_ONCE = 2**18  # means of conditions that are computed together
ENDS = ("", *(f"_over_{family}" for family in FAMILIES))
INTERVALS: Schema = {
    "condition": polars.String,
    **{key: NUMBERS[key] for key in ("step", "metric", "split", "layer")},
    "n": polars.Int64,
    **dict.fromkeys(("mean", "sd"), polars.Float64),
    **{f"{end}{family}": polars.Float64 for family in ENDS for end in ("lower", "upper")},
    "cells": polars.Int64,
}
TYPES: Mapping[frozenset[type], type[polars.DataType]] = {
    frozenset({bool}): polars.Boolean,
    frozenset({int}): polars.Int64,
    frozenset({float}): polars.Float64,
    frozenset({int, float}): polars.Float64,
}


def results(folder: str | Path) -> polars.DataFrame:
    """Every number of the finished runs at or below a folder, a row each: what the tables of a report are made of.

    Columns: condition; each key of the configuration in which conditions differ, such as optimizer.weight_decay, in a
    type of its own; run; seed, and each seed that is set separately; step; metric; split; layer; other_layer, for
    metrics by two layers; repetition; value.

    A metric is called as in the journal. "emergence of METRIC" is the step at which it emerges, "claim: NAME" the value
    that a claim is decided by, "METRIC with another KMeans seed" a control, whose repetitions are counted.

    Raises:
        UserError: `folder` does not exist, or contains no finished run.
    """
    return numbers(Findings(Path(folder)))


def numbers(findings: Findings) -> polars.DataFrame:
    """See `results`. Without claims if none is decided."""
    claims = bool(findings.claims)
    owners = [k for k, condition in enumerate(findings.conditions) for _ in condition.runs]
    runs = [run for condition in findings.conditions for run in condition.runs]
    quantities: dict[Quantity, int] = {}
    known: dict[int, tuple[tuple[Quantity, ...], list[int]]] = {}  # parts that many runs share, by identity
    numbered: list[int] = []
    values: list[float | None] = []
    parts: list[tuple[int, int, int]] = []  # the run, the step and the number of rows
    for k, run in enumerate(runs):
        for step, part, of_part in _numbers(run, claims):
            if id(part) not in known:
                known[id(part)] = part, [quantities.setdefault(quantity, len(quantities)) for quantity in part]
            numbered += known[id(part)][1]
            values += of_part
            parts.append((k, step, len(part)))
    of_run, steps, sizes = np.array(parts).T
    about = polars.DataFrame([*quantities], {key: NUMBERS[key] for key in QUANTITY}, orient="row")[numbered]
    value = polars.Series(np.array(values, dtype=float)).fill_nan(None)
    rows = about.with_columns(step=np.repeat(steps, sizes), value=value).select(*NUMBERS)
    seeds = ["seed", *dict.fromkeys(key for run in runs for key in separate_seeds(run.config))]
    configs = [flatten(run.config) for run in runs] if len(seeds) > 1 else [run.config for run in runs]
    named = polars.DataFrame([polars.Series("run", [run.path for run in runs], polars.String)])
    named = named.hstack([_column(key, [config.get(key) for config in configs]) for key in seeds])
    return _labels(findings)[owners].hstack(named)[np.repeat(of_run, sizes)].hstack(rows)


def intervals(findings: Findings) -> polars.DataFrame:
    """Every mean with its intervals, a row each, as in `points.over_runs`. Conditions that measured the same are
    computed together."""
    alike: dict[tuple[Layout, tuple[str, ...]], list[tuple[int, np.ndarray]]] = {}
    for k, condition in enumerate(findings.conditions):
        layout, values = measured([run.rows for run in condition.runs])
        alike.setdefault((layout, tuple(run.task_set for run in condition.runs)), []).append((k, values))
    frames = []
    for (layout, task_sets), members in alike.items():
        kinds = polars.DataFrame(cells(layout), {key: NUMBERS[key] for key in ("step", "metric", "split", "layer")})
        size = max(1, AT_ONCE // max(1, len(kinds)))
        for part in (members[k : k + size] for k in range(0, len(members), size)):
            columns = estimates(layout, np.stack([values for _, values in part], 1), findings.catalogue, task_sets)
            floats = polars.DataFrame({name: column.ravel().astype(float) for name, column in columns.items()})
            owners = polars.Series("owner", np.repeat([k for k, _ in part], len(kinds)))
            frames.append(kinds[[*range(len(kinds))] * len(part)].hstack(floats.fill_nan(None)).hstack([owners]))
    rows = polars.concat(frames).sort("owner", maintain_order=True)
    numbers = rows.select(*(polars.col(name).cast(kind) for name, kind in INTERVALS.items() if name != "condition"))
    return _labels(findings)[rows["owner"].to_list()].hstack(numbers)


def _labels(findings: Findings) -> polars.DataFrame:
    """A row for each condition: its name, and the keys in which conditions differ, of any sweep."""
    settings = [decisive(condition.runs[0].config) for condition in findings.conditions]
    keys = [_column(key, [values.get(key) for values in settings]) for key in differing_keys(settings)]
    return polars.DataFrame([polars.Series("condition", findings.names, polars.String), *keys])


def _column(name: str, values: Sequence[Any]) -> polars.Series:
    """Values in a type that holds all of them: text if they are of several types, or no numbers."""
    kind = TYPES.get(frozenset(type(value) for value in values if value is not None), polars.String)
    if kind is polars.String:
        values = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    return polars.Series(name, values, kind, strict=False)


def _numbers(run: Finished, claims: bool) -> Iterator[tuple[int, tuple[Quantity, ...], list[float | None]]]:
    """The rows of a run, in parts: their step, quantities and values."""
    for line in run.rows:
        keys, quantities = _of_line(tuple(line))
        yield line["step"], quantities, [*map(line.get, keys)]
        for metric, split, matrix in matrices(line, run.catalogue):
            places = [(k, other) for k, values in enumerate(matrix) for other in range(len(values))]
            about = tuple((metric.key, split, *place, None) for place in places)
            yield line["step"], about, [*chain.from_iterable(matrix)]
    more = [*_at_the_end(run, claims)]
    yield run.last["step"], tuple(quantity for quantity, _ in more), [value for _, value in more]


@lru_cache(maxsize=1024)
def _of_line(there: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Quantity, ...]]:
    """The keys of metrics in a line of the journal, and their quantities."""
    keys = metric_keys(there)
    return keys, tuple((*named, None, None) for named in map(parse, keys) if named)


def _at_the_end(run: Finished, claims: bool) -> Iterator[tuple[Quantity, float | None]]:
    """Claims, steps of emergence, and controls of a run."""
    for claim in run.results["claims"] if claims else ():
        yield (f"claim: {claim['name']}", None, None, None, None), claim["value"]
    for metric in shown(run.catalogue, "tables"):
        if run.rises(metric):
            layer = len(run.keys(metric)) - 1 if metric.by_layer else None
            yield (f"emergence of {metric.key}", "val", layer, None, None), run.emergence(metric)
    for key, layers in run.results.get("controls", {}).items():
        if control := run.catalogue.get(key):
            name = f"{control.of} {control.where}"
            for layer, values in enumerate(layers):
                yield from (((name, "val", layer, None, k), value) for k, value in enumerate(values))
